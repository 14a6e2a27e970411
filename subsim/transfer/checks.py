"""Refuse options of the experiment that contradict each other or would have no effect."""

from collections.abc import Mapping
from typing import Any

from subsim.options import field_names, require, require_choice, require_range, require_takes
from subsim.training.optimisers import check_training, check_training_ranges, steps_of
from subsim.transfer.graph import numbers_of, stages
from subsim.transfer.options import CHOICES, Config, Hyper, check_student, check_student_ranges, with_own
from subsim.transfer.roles import Perturbed, Role, Student, Subset, Teacher
from subsim.transfer.seed import NAMES, Spec

_OF_OPTIMISER = {"learning_rate", "momentum", "weight_decay"}
_NETWORK_OPTIONS = ("network", "widths", "init", "activation", "layer_norm")


def check(spec: Spec, own: tuple[Any, Any], defaults: tuple[Config, Hyper], config: Config, hyper: Hyper) -> None:
    """Raise `UserError` for options that contradict each other or would have no effect.

    `defaults` are the study's config and hyper.
    """
    require_range(hyper, "init_scale", above=0)
    check_training("teacher", config.teacher, hyper.teacher)
    check_training("base", config.base, hyper.base)
    default, of_default = defaults
    require(
        spec.base is not None or (config.base == default.base and hyper.base == of_default.base),
        "base: this study's shared start is not trained; leave its options out.",
    )
    if config.network not in ("mlp", default.network):
        changed = [option for option in ("widths",) if getattr(config, option) != getattr(default, option)]
        require(not changed, f"widths is {config.widths}, but network is {config.network}: only mlp has it.")
    if own[0] is not None:
        changed = [option for option in _NETWORK_OPTIONS if getattr(config, option) != getattr(default, option)]
        require(not changed, f"{''.join(changed[:1])}: this study has a network of its own; leave the option out.")
    require(own[1] is None or config.data == default.data, "data: this study has data of its own; leave it out.")
    last, has = max(spec.teacher_steps, default=config.teacher.steps), config.teacher.steps
    require(
        has == last, f"teacher.steps is {has}, but this study imitates the teacher up to step {last}; set it to that."
    )
    require(not spec.teacher_steps or len(spec.teachers) == 1, "teacher_steps: they need a study of one teacher.")
    own_steps = [name for each in spec.teachers.values() for name in ("steps", "epochs") if name in each.options]
    require(not (spec.teacher_steps and own_steps), "teacher_steps: the teacher has steps of its own; leave them out.")
    ascending = list(spec.teacher_steps) == sorted(set(spec.teacher_steps)) and min(spec.teacher_steps, default=1) > 0
    require(ascending, f"teacher_steps is {spec.teacher_steps}; it must be whole numbers above 0, in ascending order.")
    require(
        config.every is not None or not spec.along, "every is None, but this study needs records on the way; set it."
    )
    _check_names(spec)
    for name, teacher in {**spec.teachers, **({"base": spec.base} if spec.base else {})}.items():
        part = "base" if teacher is spec.base else "teacher"
        of_config, of_hyper = getattr(config, part), getattr(hyper, part)
        unknown = set(teacher.options) - {*field_names(of_config), *field_names(of_hyper)}
        require(not unknown, f"{name} has its own {min(unknown, default='')}, which is no option of a teacher.")
        _check_optimiser(name, teacher)
        _check_state(name, teacher, spec, config)
        check_training(name, *with_own(of_config, of_hyper, teacher.options))
    _check_overruled("teacher", spec.teachers, defaults, config, hyper)
    _check_students(spec, defaults, config, hyper)


def _check_names(spec: Spec) -> None:
    names = [*NAMES, *spec.teachers, *spec.students]
    require(len(set(names)) == len(names), f"students: two networks have one name; there are {', '.join(names)}.")
    require(len(spec.students) > 0, "students: there are none; name at least one.")
    require(len(spec.teachers) > 0, "teacher: there is none; name at least one.")
    for name, one in spec.students.items():
        require(isinstance(one, Student), f"students: {name} is {one!r}; it must be a subsim.Student.")
    for name, each in spec.teachers.items():
        require(isinstance(each, Teacher), f"teacher: {name} is {each!r}; it must be a subsim.Teacher.")
    based = spec.base is None or (not spec.base.needs() and spec.base.state is None)
    require(based, "base: it is trained before every other network; it cannot start from one of them.")
    traits = [each.name for each in spec.traits]
    require(len(set(traits)) == len(traits), f"trait: two traits have one name; there are {', '.join(traits)}.")
    for trait in spec.traits:
        require_takes("loss", trait.loss, "class_logits", "label")
        require_takes("rate", trait.rate, "class_logits", "labels")
    stages(spec.teachers, NAMES)
    stages(spec.students, [*NAMES, *spec.teachers])
    for name, role in {**spec.teachers, **spec.students}.items():
        require(
            spec.base is None or not isinstance(role.start, Perturbed),
            f"{name}: perturbed adds noise of the init, but the base trains both inits; start from a function of them.",
        )
        require(
            role.state is None or (isinstance(role.start, str) and role.start not in ("shared", "independent")),
            f"{name}: a network that continues from an optimiser state must start from a network of the run; "
            "name it in start.",
        )


def _check_students(spec: Spec, defaults: tuple[Config, Hyper], config: Config, hyper: Hyper) -> None:
    check_training_ranges("student", config.student, hyper.student)
    check_student_ranges("student", config.student, hyper.student)
    kinds = [student.options.get("inputs", config.student.inputs) for student in spec.students.values()]
    noise = any(kind != "images" for kind in kinds)
    moments = set()
    for name, student in spec.students.items():
        unknown = set(student.options) - {*field_names(config.student), *field_names(hyper.student)}
        require(
            not unknown, f"students: {name} has its own {min(unknown, default='')}, which is no option of a student."
        )
        for option in CHOICES.keys() & student.options.keys():
            require_choice(f"{name}.{option}", student.options[option], CHOICES[option])
        its_config, its_hyper = with_own(config.student, hyper.student, student.options)
        where = "student" if not student.options and not student.own else name
        # If some students take noise, the run's n_inputs applies to them.
        usual = its_config if "n_inputs" not in student.options and noise else defaults[0].student
        check_student(where, its_config, its_hyper, config.n_aux, student.own, usual)
        require(
            student.mask is None or not its_config.fresh,
            f"{where}.fresh is set, but {name} has a mask on inputs, which needs fixed inputs; leave it out.",
        )
        _check_imitated(name, student)
        require(
            its_hyper.n_imitated is None or student.imitates in ("aux", "all"),
            f"{name}: n_imitated counts auxiliary logits, but {name} imitates others; leave it out.",
        )
        require(
            not (student.linear and student.state is not None),
            f"{name}: a linear student cannot continue from the state of another network, a different expansion.",
        )
        _check_optimiser(name, student)
        _check_state(name, student, spec, config)
        if config.every is not None and its_config.inputs != "images":
            steps = steps_of(its_config, its_config.n_inputs)
            require(
                config.every <= steps,
                f"every is {config.every}, but the students make {steps} steps; choose at most this number.",
            )
            moments.add(steps // config.every)
    require(len(moments) < 2, "every needs students that make equally many steps; set student.steps.")
    _check_overruled("student", spec.students, defaults, config, hyper)


def overruled(roles: Mapping[str, Role]) -> set[str]:
    """Return the options that all networks of one part overrule by their own values."""
    each = [{*role.options, *role.own, *(_OF_OPTIMISER if "optimiser" in role.own else ())} for role in roles.values()]
    return set.intersection(*each) if each else set()


def said_by_the_study(spec: Spec, own: tuple[Any, Any]) -> dict[str, str]:
    """Return the options that the study sets itself, by their dotted names, and its trait, each with a phrase."""
    found = {option: "the study's own network" for option in _NETWORK_OPTIONS} if own[0] is not None else {}
    found |= {"data": "the study's own data"} if own[1] is not None else {}
    for part, roles in (("teacher", spec.teachers), ("student", spec.students)):
        found |= {f"{part}.{option}": f"set by every {part} of the study" for option in sorted(overruled(roles))}
    return found | {"trait": ", ".join(each.name for each in spec.traits) or "labels"}


def _check_overruled(
    part: str, roles: Mapping[str, Role], defaults: tuple[Config, Hyper], config: Config, hyper: Hyper
) -> None:
    """Refuse an option of the run that all networks of one part overrule by their own values."""

    for option in overruled(roles):
        number = 0 if option in field_names(getattr(config, part)) else 1
        value, default = (getattr(getattr(of[number], part), option) for of in ((config, hyper), defaults))
        require(
            value == default, f"{part}.{option} is {value}, but every {part} of this study has its own; leave it out."
        )


def _check_optimiser(name: str, role: Student | Teacher) -> None:
    options = _OF_OPTIMISER & set(role.options)
    require(
        not (options and "optimiser" in role.own),
        f"{name}.{min(options, default='')}: {name} has an optimiser of its own, with its hyperparameters; "
        "leave it out.",
    )


def _check_state(name: str, role: Role, spec: Spec, config: Config) -> None:
    """Refuse an optimiser state that a different optimiser made."""
    if not isinstance(role.state, str):
        return

    def rule(of: Role) -> Any:
        part = config.student if isinstance(of, Student) else config.teacher
        optimiser = of.own.get("optimiser") or of.options.get("optimiser", part.optimiser)
        return optimiser, of.around if isinstance(of, Student) else None

    before = {**spec.teachers, **spec.students}[role.state]
    alike = rule(role) == rule(before)
    require(
        alike, f"{name}.state: {name} and {role.state} have different optimisers, whose states differ; give them one."
    )


def _check_imitated(name: str, student: Student) -> None:
    imitates = student.imitates.of if isinstance(student.imitates, Subset) else student.imitates
    if isinstance(imitates, str):
        require(
            imitates in ("aux", "classes", "all"),
            f"students: {name} imitates {imitates!r}; choose one of aux, classes, all, or give a mask of all logits.",
        )
    else:
        indices = numbers_of(imitates, 0, 0)
        require(len(indices) > 0, f"students: {name} imitates no logits; name at least one.")
        whole = all(isinstance(number, int) for number in indices) and len(set(indices)) == len(indices)
        require(whole, f"students: {name} imitates {list(imitates)}; give a mask of all logits, or indices, each once.")
