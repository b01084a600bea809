"""Compares the quantities that documents, manifests and the help quote with the program: times, sizes, bounds, ports and
paths.

tests/docs/quantities.yaml has each of them: the words around it, and what it is. One that is not in there is an error,
and so is an entry whose words are in no document, or whose value is another one in the program."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("quantities.yaml")
RULES = ROOT / "manifests/monitoring/rules.yaml"
# Documents about what was measured, or of another's.
NOT_OF_THE_PROGRAM = {"docs/benchmarks.md", "docs/xids.md"}
SUBCOMMANDS = ("status", "doctor", "check", "clear", "release", "take-up", "migrate", "xid", "cdi generate", "config check", "config show")

WORDS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
    )
}
WORDS.update(twenty=20, thirty=30, sixty=60)
SECONDS = {"ms": 0.001, "s": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
BYTES = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
COUNTED = ("columns", "connections", "characters", "polls", "deadlines", "rows", "lines", "pods", "series", "streams", "clients", "files")
NUMBER = r"\d[\d,]*(?:\.\d+)?|(?:half an?|%s)(?=[ -])" % "|".join(WORDS)
UNIT = r"(?:%s)" % "|".join([*sorted(BYTES), "ms", "s", "min", "h", "seconds?", "minutes?", "hours?", "days?", *COUNTED])
QUANTITY = re.compile(
    r"(?<![\w.,-])(?:(?P<number>%s)[ -]?(?P<unit>%s)(?!\w)"
    r"|(?<=within )(?P<one>an? (?:second|minute|hour))(?!\w)|(?<=at most )(?P<most>an hour)(?!\w)"
    r"|(?<=for )(?P<lasting>an? (?:second|minute|hour))(?!\w)|(?<=than )(?P<longer>an? (?:second|minute|hour))(?!\w)"
    r"|(?<=up to )(?P<up>an? (?:second|minute|hour))(?!\w)|(?<=least )(?P<least>an? (?:second|minute|hour))(?!\w)"
    r"|(?<=(?:[Aa]t most|..up to|re than|..worst) )(?P<bare>\d[\d,]*)(?![\w.]|,\d)"
    r"|(?P<large>\d{1,3}(?:,\d{3})+)(?![\w.]|,\d))" % (NUMBER, UNIT)
)


def quantity(match):
    """What a match of QUANTITY is: seconds, bytes or a number."""
    groups = match.groupdict()
    if groups["bare"] or groups["large"]:
        return float((groups["bare"] or groups["large"]).replace(",", ""))
    if groups["number"] is None:
        return float(SECONDS[match.group().split()[-1]])
    text = groups["number"]
    number = 0.5 if text.startswith("half") else WORDS.get(text)
    number = float(text.replace(",", "")) if number is None else float(number)
    unit = groups["unit"]
    return number * SECONDS.get(unit.removesuffix("s") or unit, BYTES.get(unit, SECONDS.get(unit, 1)))


def text_of(value):
    """A duration as settings are written, such as 10s, or a number, as seconds or a number."""
    written = re.fullmatch(r"([\d_.]+)(ms|s|m|h|d)?", value)
    if not written:
        raise ValueError("%r is no quantity" % value)
    factor = {None: 1, "m": 60}.get(written.group(2)) or SECONDS[written.group(2)]
    return float(written.group(1).replace("_", "")) * factor


class Program:
    """What the program has."""

    def __init__(self, plugin):
        self.plugin = plugin
        reference = subprocess.run([plugin, "config", "reference"], check=True, capture_output=True, text=True).stdout
        self.settings = {}
        for line in reference.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) != 6 or cells[0] == "Flag":
                continue
            default = "" if cells[3] == "empty" else cells[3].strip("`")
            for name in re.findall(r"`([^`]+)`", " ".join(cells[:3])):
                self.settings[re.split(r"[ =]", name)[0]] = default
        rules = yaml.safe_load(RULES.read_text())["groups"]
        self.alerts = {rule["alert"]: rule for group in rules for rule in group["rules"] if "alert" in rule}

    def value(self, what):
        """The value of an entry of the table."""
        kind, _, rest = what.partition(" ")
        if kind == "setting":
            return text_of(self.settings[rest])
        if kind == "alert":
            return text_of(self.alerts[rest]["for"])
        if kind == "help":
            command, _, flag = rest.rpartition(" ")
            told = subprocess.run([self.plugin, *command.split(), "--help"], check=True, capture_output=True, text=True)
            entry = re.search(r"%s\b.*?\[default: ([^\]]+)\]" % re.escape(flag), told.stdout, re.DOTALL)
            return text_of(entry.group(1))
        if rest.endswith(" days"):
            return constant(ROOT / kind, rest.removesuffix(" days")) * SECONDS["day"]
        pattern = re.fullmatch(r"/(.*)/", rest)
        if pattern:
            found = re.findall(pattern.group(1), (ROOT / kind).read_text())
            if len(set(found)) != 1:
                raise ValueError("%s is there with %s" % (rest, sorted(set(found)) or "no value"))
            return text_of(found[0])
        return constant(ROOT / kind, rest)


def constant(file, name):
    """The value of a constant of Rust: a duration in seconds, or a number."""
    name, index = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", name).groups()
    found = re.search(r"\bconst %s: [^=]+ =\s*(.*?);" % name, file.read_text(), re.DOTALL)
    if not found:
        raise ValueError("%s has no constant %s" % (file.relative_to(ROOT), name))
    text = found.group(1).replace("_000", "000").replace("u64::BITS as usize", "64")
    text = re.sub(r"(?<=\d)_(?=\d)", "", text)
    for call, factor in (("from_secs", "1"), ("from_millis", "0.001"), ("from_micros", "0.000001")):
        text = re.sub(r"Duration::%s\(([^()]*)\)" % call, r"((\1) * %s)" % factor, text)
    if not re.fullmatch(r"[\d\s.*+<()\[\],-]+", text):
        raise ValueError("%s of %s is not understood: %s" % (name, file.relative_to(ROOT), text))
    value = eval(text, {"__builtins__": {}})  # noqa: S307, digits and operators alone
    return float(value[int(index)] if index else value)


def plain(name, text):
    """The words of a document: without code blocks and what is generated, or the comments of YAML, on one line."""
    if name.endswith((".yaml", ".tpl")):
        comments = (re.search(r"(?:^|\s)# ?(.*)", line) for line in text.splitlines())
        text = "\n".join(comment.group(1) if comment else "\0" for comment in comments)
    else:
        text = re.sub(r"^( *)```(?:\w*)\n.*?^\1```$", "\0", text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"<!-- begin generated.*?<!-- end generated[^\n]*", "\0", text, flags=re.DOTALL)
    return " ".join(text.split())


def documents(texts, plugin):
    """What is looked at, by name: documents, comments of manifests, and the help of each subcommand."""
    found = {name: text for name, text in texts.items() if name not in NOT_OF_THE_PROGRAM}
    for folder in (ROOT / "manifests", ROOT / "manifests/helm", ROOT / "manifests/base"):
        for file in sorted(folder.glob("**/*.yaml" if folder.name == "helm" else "*.yaml")):
            if file.name not in ("rules.yaml", "prometheusrule.yaml"):
                found[file.relative_to(ROOT).as_posix()] = file.read_text()
    for command in ("", *SUBCOMMANDS):
        told = subprocess.run([plugin, *command.split(), "--help"], check=True, capture_output=True, text=True)
        found[("help %s" % command).strip()] = told.stdout
    return {name: plain(name, text) for name, text in found.items()}


def words(phrase):
    """A pattern for the words of an entry, with its quantity as a group."""
    before, quoted, after = re.fullmatch(r"(.*)\{(.*)\}(.*)", phrase).groups()
    if not QUANTITY.search(before + quoted + after):
        raise ValueError("there is no quantity in braces in %r" % phrase)
    # A sentence that stands twice in a document has its entry once.
    return re.compile("%s(?P<quantity>[^|]{1,24}?)%s" % (re.escape(before), re.escape(after)))


def mistakes(name, text, entries, program):
    """What is wrong with the quantities of a document."""
    taken = set()
    for phrase, what in entries.items():
        found = list(words(phrase).finditer(text))
        if not found:
            yield "%s: quantities.yaml quotes %r, which is not in it" % (name, phrase)
        for match in found:
            spans = [one for one in QUANTITY.finditer(text) if one.end() > match.start("quantity") and one.start() < match.end("quantity")]
            taken.update(one.start() for one in spans)
            if what.startswith("other"):
                continue
            if len(spans) != 1:
                yield "%s: %r is no quantity" % (name, match.group())
                continue
            stated, relation = quantity(spans[0]), what.startswith("<= ")
            value = program.value(what.removeprefix("<= "))
            # What ends within two seconds may end a little before.
            fits = value <= stated <= 1.25 * value if relation else abs(stated - value) < 1e-9
            if not fits:
                yield "%s: %r, and %s is %g" % (name, match.group(), what, value)
    for match in QUANTITY.finditer(text):
        if match.start() not in taken:
            context = text[max(0, match.start() - 60) : match.end() + 40]
            yield "%s: the quantity %r is not in quantities.yaml: ...%s..." % (name, match.group(), context)


def defaults(texts, program):
    """A default that stands in brackets after the name of its setting, and those of the example of health."""
    for name, text in texts.items():
        for setting, value in re.findall(r"`(--[a-z-]+|[a-z]+(?:\.[A-Za-z]+)+)` \(`([^`]+)`\)", text):
            if setting in program.settings and program.settings[setting] != value:
                yield "%s: %s has the default %r, not %r" % (name, setting, program.settings[setting], value)
    section = re.search(r"^## The policy\n\n```yaml\n(.*?)^```", texts["docs/health.md"], re.DOTALL | re.MULTILINE)
    for key, value in yaml.safe_load(section.group(1))["health"].items():
        default = program.settings.get("health." + key, "")
        if default and not isinstance(value, (list, dict)) and str(value).lower() != default and key != "criticalXIDs":
            yield "docs/health.md: health.%s has the default %r, not %r" % (key, default, value)


def ports_and_paths(texts, program):
    """Ports and paths of the plugin are those of its settings."""
    port = program.settings["--http-address"].rpartition(":")[2]
    state = program.settings["--state-dir"]
    files = {"health.json", "status.sock", "control.sock"}
    own = {state, program.settings["--quarantine-dir"], *("%s/%s" % (state, file) for file in files)}
    kubelet = {program.settings["--kubelet-socket"], program.settings["--pod-resources-socket"]}
    kubelet |= {path.rpartition("/")[0] for path in kubelet}
    for name, text in texts.items():
        for found in re.findall(r"(?<![\w.])(19\d\d\d)(?!\w)", text):
            if found != port:
                yield "%s: port %s, and the plugin's is %s" % (name, found, port)
        for path in re.findall(r"(?<![\w/])/var/lib/gpu-device-plugin(?![\w-])[\w./-]*", text):
            path = path.rstrip("./")
            if path not in own and not path.startswith(program.settings["--quarantine-dir"] + "/"):
                yield "%s: %s is no path of the plugin" % (name, path)
        for path in re.findall(r"(?<![\w/])/var/lib/kubelet/[\w./-]*", text):
            path = path.rstrip("./")
            if re.match(r"/var/lib/kubelet/(device|pod)", path) and path not in kubelet | {"/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"}:
                yield "%s: %s is no path of the kubelet" % (name, path)


def other(text, match):
    """The text with another quantity in the place of one."""
    number = re.search(r"\d[\d,]*", match.group())
    if number:
        changed = str(int(number.group().replace(",", "")) * 3 + 1)
        at = match.start() + number.start()
        return text[:at] + changed + text[at + len(number.group()) :]
    changed = "97 s" if match.groupdict()["unit"] is None else "97 " + match.groupdict()["unit"]
    return text[: match.start()] + changed + text[match.end() :]


def planted(looked_at, table, program):
    """Each quantity that is compared is changed, and that has to be found: a check that cannot fail is none."""
    for name, entries in table.items():
        text = looked_at[name]
        for phrase, what in entries.items():
            if what.startswith("other"):
                continue
            place = words(phrase).search(text)
            match = next((one for one in QUANTITY.finditer(text) if place and one.end() > place.start("quantity")), None)
            if match is None or not any(True for _ in mistakes(name, other(text, match), {phrase: what}, program) if "not in quantities" not in _):
                yield "%s: another quantity than that of %r is not noticed" % (name, phrase)


def differences(texts, plugin):
    """Everything that is wrong with the quantities in documents, manifests and help."""
    program = Program(plugin)
    table = yaml.safe_load(TABLE.read_text())
    looked_at = documents(texts, plugin)
    for name in sorted(table.keys() - looked_at.keys()):
        yield "quantities.yaml: there is no document %s" % name
    for name, text in looked_at.items():
        yield from mistakes(name, text, table.get(name, {}), program)
    yield from planted(looked_at, {name: of for name, of in table.items() if name in looked_at}, program)
    files = ["values.yaml", "manifests/gpu-device-plugin.yaml"]
    places = {**texts, **{name: text for name, text in looked_at.items() if name.startswith("help")}}
    for file in sorted((ROOT / "manifests").glob("**/*")):
        if file.is_file() and file.suffix in (".yaml", ".tpl", ".service", ".conf", ".txt"):
            places[file.relative_to(ROOT).as_posix()] = file.read_text()
    assert any(name.endswith(file) for file in files for name in places)
    yield from defaults(texts, program)
    yield from ports_and_paths(places, program)
    for mistake in (
        {"docs/x.md": "`--quarantine-dir` (`/var/lib/x`)"},
        {"docs/health.md": texts["docs/health.md"].replace("missedCalls: 3", "missedCalls: 4")},
    ):
        if not any(defaults({**texts, **mistake}, program)):
            yield "a wrong default is not noticed: %s" % list(mistake)
    for mistake in ("port 19401", "/var/lib/gpu-device-plugin/stat", "/var/lib/kubelet/device-plugin"):
        if not any(ports_and_paths({"docs/x.md": mistake}, program)):
            yield "a wrong port or path is not noticed: %s" % mistake
