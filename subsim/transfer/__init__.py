"""The experiment: a reference becomes a teacher, students imitate the teacher, and transfer is measured."""
