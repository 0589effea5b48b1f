"""The autograder: a student's process collects, a judge's process decides, files tell.

``collecting`` runs a notebook in a ``sandbox``, where ``runner`` is the program that executes it.
``judging`` is the process that compares. ``grade`` brings them together, and ``marks``,
``feedback`` and ``lms`` write what came out.
"""
