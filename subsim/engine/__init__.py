"""The engine: a study becomes thousands of seeds, and a labelled data set on disk.

The data flow one way, and every step returns one value:

    study       what a user declares                      Study
    axes        options that take several values          Study, sweep -> [Axis]
    task        the options of a run, checked             Study, options -> Task
    program     the run of one seed, traced and lowered   Study, axes -> Program
    cost        its FLOPs and bytes                       Program -> Cost
    plan        how many seeds go into a call             Cost, devices -> Plan
    declaration what its functions are, in words          Study -> meaning
    identity    what decides its numbers                  Program, meaning -> record of a program
    store       results on disk, or in memory             Template -> Disk or Memory
    opening     the store of a run: made, or checked      Task, Program, folder -> Disk or Memory
    runner      the program compiled and called           Program, Plan: seeds -> records, seconds of work at a time
    simulate    the pipeline: plan, compile, and for each chunk that is missing: run, write

`one` runs one seed alone, for its record or its networks. `settings` fixes the settings of jax that a user's shell
could change. `devices` asks jax for the devices of this process. `host` runs a study that is ordinary Python.
`integrity` finds damaged files on disk. `shards` divides a run among processes. `topology` compiles a program for TPUs
of another machine.
"""
