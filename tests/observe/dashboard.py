"""Makes manifests/monitoring/dashboard.json: `python3 tests/observe/manifests.py --write`.

Every query is for a fleet of any size: what it answers is a sum, or the few that are worst. Panels that a healthy day
does not need are in rows that are collapsed, so that Grafana asks for them when they are opened."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'cluster=~"$cluster",node=~"$node"'
# How many lines a panel draws, and how many rows a table has.
LINES, ROWS = 20, 200
NODE = "cluster, node, instance"
GPU = NODE + ", uuid"
P = "gpu_device_plugin_"
PROBLEM = P + "problem_since_timestamp_seconds"


def of(metric, *matchers):
    """The series of the chosen nodes."""
    return "%s{%s}" % (metric, ",".join([*matchers, CHOSEN]))


def own(metric):
    """A metric of any process, where the process is the plugin, whatever the name of its job."""
    return "(%s and on (%s, job) %s)" % (of(metric), NODE, of(P + "build_info"))


def increase(metric):
    return "increase(%s[$__rate_interval])" % of(metric)


def worst(expression):
    """Of many lines the highest at the end of the time that is shown."""
    return "%s and topk(%d, %s)" % (expression, LINES, at_end(expression))


def at_end(expression):
    """Of the expression its value at the end. A selector with a range has it after the range."""
    out, at = "", 0
    while at < len(expression):
        if expression[at] == "}":
            end = expression.find("]", at) if expression[at + 1 : at + 2] == "[" else at
            out, at = out + expression[at : end + 1] + " @ end()", end + 1
        else:
            out, at = out + expression[at], at + 1
    return out


def rows(expression):
    return "topk(%d, %s)" % (ROWS, expression)


class Board:
    """Panels in the order in which they are added, placed from left to right."""

    def __init__(self):
        self.panels, self.row, self.number = [], None, 0
        self.x = self.y = self.height = 0

    def place(self, width, height):
        if self.x + width > 24:
            self.x, self.y = 0, self.y + self.height
            self.height = 0
        place = {"h": height, "w": width, "x": self.x, "y": self.y}
        self.x, self.height = self.x + width, max(self.height, height)
        return place

    def add(self, panel, width, height):
        self.number += 1
        panel |= {"id": self.number, "gridPos": self.place(width, height)}
        (self.row["panels"] if self.row and self.row["collapsed"] else self.panels).append(panel)

    def begin(self, title, collapsed=True):
        self.x, self.y, self.height = 0, self.y + self.height, 0
        self.number += 1
        self.row = {"id": self.number, "type": "row", "title": title, "collapsed": collapsed, "panels": []}
        self.row["gridPos"] = self.place(24, 1)
        self.x, self.y, self.height = 0, self.y + 1, 0
        self.panels.append(self.row)

    def panel(self, kind, title, description, targets, width, height, defaults, options, **more):
        panel = {"type": kind, "title": title, "description": description, "datasource": SOURCE, "targets": targets}
        panel["fieldConfig"] = {"defaults": defaults, "overrides": more.pop("overrides", [])}
        self.add(panel | {"options": options} | more, width, height)

    def stat(self, title, description, expression, width=3, bad=None):
        steps = [{"color": "blue" if bad is None else "green", "value": None}]
        steps += [{"color": bad, "value": 1}] if bad else []
        defaults = {"unit": "none", "noValue": "0", "thresholds": {"mode": "absolute", "steps": steps}}
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        options = {"colorMode": "background" if bad else "value", "graphMode": "none", "reduceOptions": reduced}
        self.panel("stat", title, description, [target(expression, instant=True)], width, 4, defaults, options)

    def lines(self, title, description, *expressions, unit="short", width=12, stacked=False):
        custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
        custom |= {"stacking": {"mode": "normal"}} if stacked else {}
        targets = [target(*each, letter="ABC"[at]) for at, each in enumerate(expressions)]
        legend = {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}
        options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        self.panel("timeseries", title, description, targets, width, 8, {"unit": unit, "min": 0, "custom": custom}, options)

    def states(self, title, description, expression, legend, words, width=24):
        values = {str(value): {"text": word, "color": color, "index": value} for value, (word, color) in enumerate(words)}
        defaults = {
            "mappings": [{"type": "value", "options": values}],
            "custom": {"fillOpacity": 80, "lineWidth": 0},
            "thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]},
        }
        options = {"mergeValues": True, "showValue": "never", "rowHeight": 0.9}
        options["legend"] = {"displayMode": "list", "placement": "bottom"}
        self.panel("state-timeline", title, description, [target(expression, legend)], width, 8, defaults, options)

    def table(self, title, description, expression, columns, width=24, height=8, value=None, sort=None):
        """`columns` are the labels in their order, with their headings; `value` is the heading of the value."""
        names = {label: heading for label, heading in columns if heading != label}
        order = [label for label, _ in columns]
        hidden = {"Time": True} | ({} if value else {"Value": True})
        if value:
            names["Value"] = value
        organize = {"excludeByName": hidden, "renameByName": names}
        organize["indexByName"] = {label: at for at, label in enumerate(order)}
        overrides = []
        if value == "since":
            overrides.append(field("since", {"unit": "dateTimeFromNow", "custom.width": 130}))
        if "node" in order:
            overrides.append(field("node", {"links": LINKS}))
        options = {"showHeader": True} | ({"sortBy": [{"displayName": sort, "desc": True}]} if sort else {})
        self.panel(
            "table", title, description, [target(expression, instant=True, table=True)], width, height,
            {"custom": {"filterable": True}}, options, overrides=overrides,
            transformations=[{"id": "organize", "options": organize}],
        )


def target(expression, legend="", letter="A", instant=False, table=False):
    kind = {"instant": True} if instant else {"range": True}
    form = "table" if table else "time_series"
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "refId": letter, "format": form} | kind


def field(name, properties):
    each = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": each}


# The node's name is one of the data; what stands before and after it in the address of its page is chosen above.
LINKS = [
    {
        "title": "Only this node",
        "url": "/d/gpu-device-plugin?${datasource:queryparam}&${cluster:queryparam}&var-node=${__data.fields.node}"
        "&${page_before:queryparam}&${page_after:queryparam}&${__url_time_range}",
    },
    {"title": "The page of its plugin", "url": "${page_before:raw}${__data.fields.node}${page_after:raw}", "targetBlank": True},
]


def named(problems):
    """Problems with what identifies their GPUs, and those of the whole node."""
    info = "max by (%s, gpu, pci_bus_id, model) (%s)" % (GPU, of(P + "device_info", 'parent_uuid=""'))
    of_gpus = "max by (%s, effect, reason, xid, message, remedy) (%s)" % (GPU, of(problems, 'uuid!=""'))
    of_nodes = "max by (%s, effect, reason, message, remedy) (%s)" % (NODE, of(problems, 'uuid=""'))
    return "%s * on (%s) group_left (gpu, pci_bus_id, model) %s or %s" % (of_gpus, GPU, info, of_nodes)


def overview(board):
    board.begin("What is wrong", collapsed=False)
    gpus = lambda effect: 'count(count by (%s) (%s))' % (GPU, of(PROBLEM, 'uuid!=""', 'effect="%s"' % effect))
    board.stat("Nodes", "Nodes with a plugin that answers.", "count(%s)" % of(P + "build_info"), 2)
    board.stat("GPUs", "GPUs that NVML counts.", "sum(%s)" % of(P + "gpus", 'stage="enumerated"'), 2)
    board.stat("Devices", "Devices in the kubelets' lists, replicas and MIG devices counted one by one.",
               "sum(%s)" % of(P + "devices", 'health!="withdrawn"'), 2)
    board.stat("Allocated", "Devices that containers hold.", "sum(%s)" % of(P + "allocated_devices"), 2)
    board.stat("Unhealthy GPUs", "GPUs with a failure of their own.", gpus("unhealthy"), 3, "red")
    board.stat("Degraded GPUs", "GPUs that work and need a person.", gpus("degraded"), 3, "orange")
    board.stat("Drivers down", "Nodes on which NVML cannot be used.", "sum(1 - %s)" % of(P + "nvml_up"), 2, "red")
    board.stat("Not registered", "Resources whose devices the kubelet does not watch.",
               "sum(1 - %s)" % of(P + "kubelet_registered"), 2, "red")
    board.stat("Counts differ", "Nodes on which NVML counts other GPUs than are identified, or than are expected.",
               "count(max by (%s) (%s) != min by (%s) (%s))" % ((NODE, of(P + "gpus", 'stage=~"enumerated|identified|expected"')) * 2),
               2, "orange")
    board.stat("Reloads refused", "Nodes with a config file that has mistakes.",
               "sum(1 - %s)" % of(P + "config_last_reload_successful"), 2, "orange")
    board.stat("Alerts", "Alerts of this plugin's rules that fire.",
               "count(%s)" % of("ALERTS", 'alertstate="firing"', 'alertname=~"Gpu.*"'), 2, "red")
    board.table(
        "Problems", "What is wrong with GPUs and drivers, the newest first, %d at most. A click on a node leads to that "
        "node alone, or to the page of its plugin." % ROWS,
        "%s * 1000" % rows(named(PROBLEM)),
        [("Value", "since"), ("cluster", "cluster"), ("node", "node"), ("gpu", "GPU"), ("effect", "effect"),
         ("message", "what"), ("remedy", "what to do"), ("reason", "reason"), ("xid", "Xid"), ("pci_bus_id", "PCI bus id"),
         ("uuid", "UUID"), ("model", "model"), ("instance", "instance")],
        height=10, value="since", sort="since",
    )
    board.table(
        "Alerts", "Since when each alert is active, the newest first. What to do about each is in docs/monitoring.md.",
        "%s * 1000" % rows("max by (%s, uuid, alertname, severity) (%s)" % (NODE, of("ALERTS_FOR_STATE", 'alertname=~"Gpu.*"'))),
        [("Value", "since"), ("cluster", "cluster"), ("node", "node"), ("alertname", "alert"), ("severity", "severity"),
         ("uuid", "UUID"), ("instance", "instance")],
        width=12, value="since", sort="since",
    )
    board.lines(
        "Problems over time", "How many GPUs have a problem, by its kind; and nodes whose driver fails.",
        ('count by (effect, reason) (count by (%s, effect, reason) (%s))' % (GPU, of(PROBLEM)), "{{effect}}: {{reason}}"), stacked=True,
    )


def gpus(board):
    board.begin("GPUs")
    healthy = of(P + "device_healthy")
    troubled = "topk(%d, 1 - min by (%s) (min_over_time(%s[$__range] @ end())))" % (LINES, GPU, healthy)
    board.states(
        "Health", "GPUs and MIG devices that were Unhealthy in the time that is shown, %d at most; of one node, all that fit." % LINES,
        "min by (%s) (%s) and on (%s) %s" % (GPU, healthy, GPU, troubled), "{{node}} {{uuid}}",
        [("Unhealthy", "red"), ("Healthy", "green")],
    )
    info = "max by (%s, gpu, model, numa_node, pci_bus_id, mig_profile) (%s)" % (GPU, of(P + "device_info"))
    labels = "gpu, model, numa_node, pci_bus_id, mig_profile"
    board.table(
        "GPUs and MIG devices", "Choose a node to see all of it: of a fleet, %d are shown, those that are Unhealthy among them." % ROWS,
        rows("(1 - min by (%s) (%s)) * on (%s) group_left (%s) %s" % (GPU, healthy, GPU, labels, info)),
        [("cluster", "cluster"), ("node", "node"), ("gpu", "GPU"), ("model", "model"), ("numa_node", "NUMA"),
         ("pci_bus_id", "PCI bus id"), ("mig_profile", "MIG"), ("uuid", "UUID"), ("Value", "Unhealthy"), ("instance", "instance")],
        value="Unhealthy", sort="Unhealthy", height=10,
    )
    board.lines("Xids", "Xids that the driver reported, by number. docs/xids.md has what each means.",
                ("sum by (xid) (%s)" % increase(P + "xid_events_total"), "{{xid}}"),
                ("sum(%s)" % increase(P + "xids_total"), "all"))
    changes = "sum by (%s) (increase(%s[1h]))" % (GPU, of(P + "device_health_transitions_total"))
    board.lines("Changes of health within an hour", "GPUs that fail and recover, the %d worst." % LINES,
                (worst(changes) + " > 0", "{{node}} {{uuid}}"))
    board.lines("Memory rows", "GPUs with a row that waits to be remapped, or that could not be.",
                ("sum(%s)" % of(P + "row_remap_pending"), "pending"), ("sum(%s)" % of(P + "row_remap_failed"), "failed"))
    board.lines("What the driver asks for", "GPUs by recovery action: 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.",
                ('count_values("action", %s > 0)' % of(P + "recovery_action"), "{{action}}"))
    board.lines("Numbers of GPUs", "On the bus, counted, identified, offered and expected, over all chosen nodes.",
                ("sum by (stage) (%s)" % of(P + "gpus"), "{{stage}}"), ("sum(%s)" % of(P + "devices_reserved"), "reserved"))
    board.lines("Findings", "What is not offered as one would expect, by kind.",
                ("sum by (kind) (%s) > 0" % of(P + "findings"), "{{kind}}"))


def kubelet(board):
    board.begin("The kubelet and allocations")
    few = "topk(%d, 1 - min by (%s, resource) (min_over_time(%s[$__range] @ end())))" % (
        LINES, NODE, of(P + "kubelet_registered"))
    board.states("Registered", "Resources that the kubelet did not watch in the time that is shown, %d at most." % LINES,
                 "min by (%s, resource) (%s) and on (%s, resource) %s" % (NODE, of(P + "kubelet_registered"), NODE, few),
                 "{{node}} {{resource}}", [("not registered", "red"), ("registered", "green")])
    board.table("Who holds what", "Devices that containers hold, %d at most." % ROWS,
                rows("max by (%s, namespace, pod, container, resource) (%s)" % (GPU, of(P + "allocated_devices"))),
                [("cluster", "cluster"), ("node", "node"), ("namespace", "namespace"), ("pod", "pod"), ("container", "container"),
                 ("resource", "resource"), ("uuid", "UUID"), ("Value", "devices"), ("instance", "instance")],
                value="devices")
    by_namespace = "sum by (namespace, resource) (%s)" % of(P + "allocated_devices")
    board.lines("Devices held by namespace", "The %d that hold most." % LINES, (worst(by_namespace), "{{namespace}} {{resource}}"))
    board.lines("Devices", "Devices in the kubelets' lists. Withdrawn ones are held and no longer offered.",
                ("sum by (resource, health) (%s)" % of(P + "devices"), "{{resource}} {{health}}"))
    board.lines("Allocations", "Containers that got devices, or were refused them.",
                ("sum by (resource, result) (%s)" % increase(P + "allocations_total"), "{{result}} {{resource}}"))
    board.lines("Registrations", "Attempts to register with the kubelet.",
                ("sum by (result) (%s)" % increase(P + "kubelet_registrations_total"), "{{result}}"))
    board.lines("Streams and lists", "Open streams, and lists that were sent.",
                ("sum by (resource) (%s)" % of(P + "listandwatch_streams"), "streams {{resource}}"),
                ("sum by (resource) (%s)" % increase(P + "listandwatch_updates_sent_total"), "lists {{resource}}"))
    board.lines("Notes on preferred allocations", "Requests that were odd, or could not be met as asked.",
                ("sum by (reason) (%s)" % increase(P + "preferred_allocation_notes_total"), "{{reason}}"))
    buckets = "sum by (method, le) (rate(%s[$__rate_interval]))" % of(P + "rpc_duration_seconds_bucket")
    for title, part in (("Time of a call, median", 0.5), ("Time of a call, 99 of 100", 0.99)):
        board.lines(title, "Calls of the kubelet, and registrations.",
                    ("histogram_quantile(%s, %s)" % (part, buckets), "{{method}}"), unit="s", width=8)
    board.lines("Calls", "Calls in a second, by answer.",
                ("sum by (method, code) (rate(%s[$__rate_interval]))" % of(P + "rpc_duration_seconds_count"), "{{method}} {{code}}"),
                width=8)


def driver(board):
    board.begin("NVML and the driver")
    few = "topk(%d, 1 - min by (%s) (min_over_time(%s[$__range] @ end())))" % (LINES, NODE, of(P + "nvml_up"))
    board.states("NVML", "Nodes on which NVML was down in the time that is shown, %d at most." % LINES,
                 "min by (%s) (%s) and on (%s) %s" % (NODE, of(P + "nvml_up"), NODE, few), "{{node}}",
                 [("down", "red"), ("up", "green")])
    board.lines("Errors", "Calls of NVML that failed, by return code.",
                ("sum by (call, code) (%s)" % increase(P + "nvml_errors_total"), "{{call}} {{code}}"))
    board.lines("Calls that do not return", "On the %d nodes with most of them." % LINES,
                (worst("max by (%s) (%s)" % (NODE, of(P + "nvml_unanswered_calls"))) + " > 0", "{{node}}"))
    checks = "sum by (le) (rate(%s[$__rate_interval]))" % of(P + "health_check_duration_seconds_bucket")
    board.lines("Time of a health check", "Of all chosen nodes.",
                *[("histogram_quantile(%s, %s)" % (part, checks), word) for part, word in ((0.5, "median"), (0.99, "99 of 100"))],
                unit="s")
    board.table("Drivers", "How many nodes have which.",
                "count by (driver_version, cuda_version, nvml_version) (%s)" % of(P + "driver_info"),
                [("driver_version", "driver"), ("cuda_version", "CUDA"), ("nvml_version", "NVML"), ("Value", "nodes")],
                width=12, value="nodes", sort="nodes")


def plugin(board):
    board.begin("The plugin itself")
    for title, description, expression, unit in (
        ("Memory", "Resident memory", own("process_resident_memory_bytes"), "bytes"),
        ("Processor", "Time of a processor in a second", "rate(%s[$__rate_interval])" % of("process_cpu_seconds_total"), "percentunit"),
        ("Threads", "Threads", own("process_threads"), "short"),
        ("Descriptors", "Open files", own("process_open_fds"), "short"),
    ):
        if "rate" in expression:
            expression = "(%s and on (%s, job) %s)" % (expression, NODE, of(P + "build_info"))
        board.lines(title, "%s: the median of all chosen nodes, and the most of one." % description,
                    ("quantile(0.5, %s)" % expression, "median"), ("max(%s)" % expression, "most"), unit=unit, width=6)
    board.lines("Starts", "Starts of plugins within an hour.",
                ("sum(changes(%s[1h]) and on (%s, job) %s)" % (of("process_start_time_seconds"), NODE, of(P + "build_info")), "starts"),
                width=8)
    board.lines("Reloads of the configuration", "Changed config files that were applied or refused.",
                ("sum by (result) (%s)" % increase(P + "config_reloads_total"), "{{result}}"), width=8)
    board.table("Versions", "How many nodes run which.", "count by (version, revision, rustc) (%s)" % of(P + "build_info"),
                [("version", "version"), ("revision", "revision"), ("rustc", "rustc"), ("Value", "nodes")],
                width=8, value="nodes", sort="nodes")


def dcgm(board):
    board.begin("With dcgm-exporter")
    joined = lambda metric: 'max by (uuid) (label_replace(%s, "uuid", "$1", "UUID", "(.+)"))' % metric
    holders = "max by (node, namespace, pod, uuid) (%s)" % of(P + "allocated_devices")
    use = "%s * on (uuid) group_right () %s" % (joined("DCGM_FI_DEV_GPU_UTIL"), holders)
    board.lines("Use of the GPUs, by the pod that holds them", "The %d least used. A GPU that is shared has one line for each pod." % LINES,
                ("bottomk(%d, %s)" % (LINES, use), "{{namespace}}/{{pod}} {{uuid}}"), unit="percent")
    unhealthy = "min by (uuid) (%s) == 0" % of(P + "device_healthy")
    board.lines("Temperature of Unhealthy GPUs", "The %d hottest." % LINES,
                ("topk(%d, %s and on (uuid) (%s))" % (LINES, joined("DCGM_FI_DEV_GPU_TEMP"), unhealthy), "{{uuid}}"), unit="celsius")
    idle = "max by (namespace, uuid) (%s) and on (uuid) (%s < 1)" % (of(P + "allocated_devices"), joined("DCGM_FI_DEV_GPU_UTIL"))
    board.lines("Held and idle", "GPUs that pods hold and do not use: the %d namespaces with most." % LINES,
                ("topk(%d, count by (namespace) (%s))" % (LINES, idle), "{{namespace}}"))


def variable(name, label, query):
    of_all = {"includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"}}
    asked = {"query": query, "refId": name}
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": asked, "refresh": 2, "sort": 1, "hide": 0} | of_all


def textbox(name, label, value):
    chosen = {"text": value, "value": value}
    return {"name": name, "label": label, "type": "textbox", "query": value, "current": chosen, "options": [chosen | {"selected": True}], "hide": 0}


def dashboard():
    board = Board()
    for part in (overview, gpus, kubelet, driver, plugin, dcgm):
        part(board)
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}, "hide": 0, "refresh": 1}
    starts = "changes(%s[1m]) > 0 and on (%s, job) %s" % (of("process_start_time_seconds"), NODE, of(P + "build_info"))
    annotation = {
        "name": "Starts of the plugin", "datasource": SOURCE, "enable": True, "iconColor": "blue",
        "expr": "sum(%s)" % starts, "titleFormat": "started", "textFormat": "on {{value}} nodes",
    }
    return {
        "uid": "gpu-device-plugin",
        "title": "GPU device plugin",
        "tags": ["gpu", "kubernetes"],
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "description": "What the device plugin knows of the GPUs of a node or of a cluster: what is wrong and since when, kubelet, allocations, driver.",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "links": [],
        "templating": {
            "list": [
                source,
                variable("cluster", "Cluster", "label_values(%sbuild_info, cluster)" % P),
                variable("node", "Node", 'label_values(%sbuild_info{cluster=~"$cluster"}, node)' % P),
                textbox("page_before", "Page of a node: before its name", "http://"),
                textbox("page_after", "after its name", ":19400/"),
            ]
        },
        "annotations": {"list": [annotation]},
        "panels": board.panels,
    }
