"""Grade a folder: each submission is run, judged and written down by itself."""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import resnet_lib
from resnet_lib import UserError, assignments
from resnet_lib.assignments.items import HIDDEN_COLLECT, Assignment, Item
from resnet_lib.authoring import author, files, questions
from resnet_lib.grading import feedback, flags, notebook, sandbox
from resnet_lib.grading.collecting import Answer, Collected, Collector, first_line
from resnet_lib.grading.judging import Judge
from resnet_lib.grading.marks import FAILED, Cell, Mark, Marks, Result, notes_of
from resnet_lib.grading.notebook import Submission
from resnet_lib.grading.settings import Options, choose_settings

INSIDE = "/assignment.py"  # where a teacher's own assignment is in the sandbox
STATUS = {
    "time": "time limit",
    "total": "time limit",
    "memory": "memory limit",
    "processes": "process limit",
    "channel": "stopped",
    "died": "stopped",
}


@dataclass
class Outcome:
    """All results, by name, with those that were graded now."""

    assignment: Assignment
    marks: Marks
    results: list[Result] = field(default_factory=list)
    graded: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # files that are no submission


def grade(folder: Path | str, options: Options, report: Callable[[str], None] = print) -> Outcome:
    """Grade what changed since the last time, and write it all to the folder of marks."""
    assignment = assignments.find(options.assignment)
    if options.coursework:
        assignment = assignment.with_hidden(options.coursework)
    found, others = notebook.submissions(folder)
    if not options.trusting:
        sandbox.probe()
    settings = choose_settings(options, assignment)
    options = replace(options, variant=settings["variant"])
    check_names(found, options.again)
    marks = Marks.open(options.out, assignment, settings)
    grader = Grader(options, assignment, settings["seed"])
    shared = flags.alike(compare(found, marks, grader))
    asked = settings["seed"] if options.seed is None else options.seed
    appeals = Grader(options, assignment, asked)
    outcome = Outcome(assignment, marks, others=others)
    keep = {entry.name: grader.kept(entry, marks) for entry in found}
    todo = [entry for entry in found if keep[entry.name] is None]
    absent = [name for name in marks.latest if name not in keep]
    kept = [result for result in keep.values() if result is not None]
    kept += [marks.latest[name] for name in absent]
    results = {result.submission: with_flag(result, shared) for result in kept}
    marks.begin(results.values())
    if absent:
        names = ", ".join(sorted(absent)[:5]) + (" ..." if len(absent) > 5 else "")
        report(f"{len(absent)} graded earlier are not in {folder}; their marks stay: {names}")
    if len(todo) < len(found):
        report(
            f"{len(found) - len(todo)} of {len(found)} unchanged since they were graded, "
            f"{len(todo)} to do"
        )
    again = [entry for entry in todo if entry.name in options.again]
    first = [entry for entry in todo if entry.name not in options.again]
    try:
        for result in itertools.chain(grader.all(first), appeals.all(again)):
            before = marks.latest.get(result.submission)
            marks.add(result)
            feedback.write(marks.folder, result, assignment)
            results[result.submission] = with_flag(result, shared)
            report(line(results[result.submission], before))
    finally:
        sandbox.stop_all()
        grader.judge.close()
        appeals.judge.close()
    outcome.results = list(results.values())
    outcome.graded = [entry.name for entry in todo]
    marks.finish(outcome.results)
    return outcome


def check_names(found: Iterable[Submission], again: Iterable[str]) -> None:
    """UserError where a name to grade again is not there."""
    known = {entry.name for entry in found}
    for name in again:
        if name not in known:
            raise UserError(
                f"no submission is called {name} in this folder; names are those in marks.csv"
            )


def compare(
    found: Iterable[Submission], marks: Marks, grader: "Grader"
) -> dict[str, frozenset[str]]:
    """The lines to compare: of all that is here, and of what was graded elsewhere earlier."""
    earlier = {name: lines for name, lines in marks.lines().items() if name in marks.latest}
    own = earlier | {entry.name: grader.own_lines(entry) for entry in found}
    marks.keep_lines(own)
    return own


def with_flag(result: Result, shared: Mapping[str, str]) -> Result:
    """The result with the flag that depends on the other submissions."""
    if result.submission not in shared:
        return result
    words = [word for word in result.status.split("; ") if word not in ("ok", "flagged")]
    status = "; ".join([*words, "flagged"])
    return replace(result, flags=(*result.flags, shared[result.submission]), status=status)


def line(result: Result, before: Result | None) -> str:
    """One submission on the screen."""
    text = (
        f"{result.submission}: {result.total:g} of {result.most:g}, {result.status}, "
        f"{result.seconds:.1f} s"
    )
    if before:
        text += f" (was {before.total:g} of {before.most:g}, graded {before.date[:10]})"
    return text + "".join(f"\n    {note}" for note in notes_of(result))


class Grader:
    """Grades submissions of one assignment with one seed."""

    def __init__(self, options: Options, assignment: Assignment, seed: int):
        self.options, self.assignment, self.seed = options, assignment, seed
        coursework = str(options.coursework or "")
        self.judge = Judge(options.assignment, options.variant, seed, coursework)
        self.limits = sandbox.Limits(
            options.seconds or assignment.seconds,
            options.cell_seconds or assignment.cell_seconds,
            options.gigabytes or assignment.gigabytes,
            cores=max(1, sandbox.cores() // options.jobs),
        )
        # All of the folder's Python files: the hidden items may read others beside them.
        self.own = sorted(options.coursework.glob("*.py")) if options.coursework else []
        source = options.coursework and options.coursework / HIDDEN_COLLECT
        self.source = source.read_bytes() if source and source.exists() else b""
        self.published = published_lines(options.coursework)
        self.sheet = sheet_lines(options.coursework, options.variant, assignment.name)
        own_file = Path(options.assignment)
        inside, shown = options.assignment, {}
        if own_file.suffix == ".py":
            self.own.append(own_file)
            if not options.trusting:
                inside, shown = INSIDE, {INSIDE: str(own_file.resolve())}
            else:
                inside = str(own_file.resolve())
        self.collector = Collector(
            inside,
            assignment.items,
            self.judge.question,
            self.limits,
            self.source,
            trusting=options.trusting,
            shown=shown,
            user=options.user,
        )

    def fingerprint(self, seed: int) -> str:
        """Of everything beside the submission that could change a mark."""
        package = Path(resnet_lib.__file__).parent
        files = [
            path for name in ("assignments", "checks") for path in (package / name).glob("*.py")
        ]
        digest = hashlib.sha256(repr((resnet_lib.__version__, self.options.variant)).encode())
        digest.update(repr((self.assignment.name, seed, self.limits.seconds)).encode())
        digest.update(repr((self.limits.cell_seconds, self.limits.gigabytes)).encode())
        for path in [*sorted(files), *self.own]:
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def key(self, submission: Submission, seed: int) -> str:
        """Changes with the file and with everything else that could change its marks."""
        digest = hashlib.sha256(self.fingerprint(seed).encode())
        try:
            if submission.path.is_file() and not submission.path.is_symlink():
                digest.update(str(submission.path.stat().st_size).encode())
                with submission.path.open("rb") as file:  # a larger one is not read at all
                    digest.update(file.read(notebook.LARGEST))
        except OSError:
            return ""  # says why when it is graded
        return digest.hexdigest()

    def own_lines(self, submission: Submission) -> frozenset[str]:
        """Digests of the lines that are not the sheet's; none where there is no sheet to read."""
        try:
            cells = notebook.read(submission.path).cells
        except OSError:  # says why when it is graded
            return frozenset()
        return frozenset(map(digest, flags.telling_lines(cells, self.sheet)))

    def kept(self, submission: Submission, marks: Marks) -> Result | None:
        """The earlier result, where nothing has changed."""
        before = marks.latest.get(submission.name)
        if before is None or not before.key:
            return None
        seed = self.seed if before.seed is None else before.seed  # after an appeal its own
        same = before.key == self.key(submission, seed)
        if same and before.status != FAILED and submission.name not in self.options.again:
            return before
        return None

    def all(self, entries: list[Submission]) -> Iterable[Result]:
        """Results as they are finished. What goes wrong with one touches no other."""
        if not entries:
            return
        self.judge.start()  # imports torch while the first notebook does
        if self.options.jobs == 1:
            yield from map(self.one, entries)
            return
        pool = ThreadPoolExecutor(self.options.jobs)
        try:
            for future in as_completed([pool.submit(self.one, entry) for entry in entries]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def one(self, submission: Submission) -> Result:
        """The result of one submission, whatever happens."""
        start = time.monotonic()
        try:
            result = self._one(submission)
        except Exception as error:  # also a fault of ours: the others must get their marks
            complaint = (getattr(error, "complaint", "").splitlines() or [""])[-1]
            reason = f"{type(error).__name__}: {error} {complaint}".strip()
            marks = tuple(self._mark(item, 0.0, feedback.SORRY) for item in self.assignment.items)
            result = Result(submission.name, FAILED, 0.0, marks, reason=reason)
        return replace(
            result,
            seconds=round(time.monotonic() - start, 2),
            key=self.key(submission, self.seed),
            seed=self.seed,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _one(self, submission: Submission) -> Result:
        read = notebook.read(submission.path)
        if read.problem:
            marks = tuple(self._mark(item, 0.0, read.reason) for item in self.assignment.items)
            return Result(submission.name, read.problem, 0.0, marks, reason=read.reason)
        collected = self.collector.collect(submission.path, read.cells)
        marks = tuple(
            self._judged(item, collected.answers[item.name]) for item in self.assignment.items
        )
        found = flags.flags(read.cells, self.options.variant, self.assignment.foreign)
        found += flags.of_solution(read.cells, self.published)
        found += self._seen(collected, marks)
        answering = flags.answering(read.cells, {item.answer for item in self.assignment.items})
        return Result(
            submission.name,
            status(collected, found, answering),
            0.0,
            marks,
            flags=tuple(dict.fromkeys(found)),
            errors=cells(collected.errors, read.cells, "raised "),
            left_out=cells(collected.left_out, read.cells),
        )

    def _judged(self, item: Item, answer: Answer) -> Mark:
        if answer.failure:
            return self._mark(item, 0.0, answer.failure)
        found = self.judge.judge(item.name, answer.outputs)
        return self._mark(item, found.share, found.text, found.trouble)

    def _mark(self, item: Item, share: float, text: str, trouble: str = "") -> Mark:
        points = round(share * item.points, 2)
        return Mark(item.name, item.title, points, item.points, text, item.hidden, trouble)

    def _seen(self, collected: Collected, marks: Iterable[Mark]) -> list[str]:
        """Flags for what happened while it ran."""
        found = []
        for answer in collected.answers.values():
            found += flags.of_origins(answer.origins, self.assignment.foreign)
        if "channel" in collected.causes:
            found.append("disturbed the messages to the grader")
        found += [f"{mark.item} could not be judged" for mark in marks if mark.trouble]
        return found


def published_lines(coursework: Path | None) -> frozenset[str]:
    """The lines of the solution beside the hidden items; none where there is no master to read."""
    try:
        return author.telling_lines(coursework / "master.ipynb") if coursework else frozenset()
    except UserError:
        return frozenset()


def sheet_lines(coursework: Path | None, variant: int, name: str) -> frozenset[str] | None:
    """The lines of the sheet as it is given to students; None where there is no master to read."""
    try:
        cells = questions(coursework / "master.ipynb", variant, name) if coursework else []
    except UserError:
        return None
    return flags.telling_lines(files.texts(cells), frozenset()) if cells else None


def digest(text: str) -> str:
    """Short, and another for another text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def status(collected: Collected, found: list[str], answering: Set[int] = frozenset()) -> str:
    """One or more words; "ok" where there is nothing to say. ``answering``: cells with answers."""
    words = [STATUS[cause] for cause in collected.causes]
    missing = any(answer.failure for answer in collected.answers.values())
    if collected.errors and (missing or answering & collected.errors.keys()):
        words.append("errors")
    return "; ".join(dict.fromkeys(words + ["flagged"] * bool(found))) or "ok"


def cells(reasons: dict[int, str], sources: tuple[str, ...], before: str = "") -> tuple[Cell, ...]:
    """Cells with their reasons, in order."""
    return tuple(
        Cell(number + 1, first_line(sources[number]), before + reasons[number])
        for number in sorted(reasons)
    )
