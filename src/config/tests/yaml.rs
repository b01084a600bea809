use super::*;

const SLICED: &str = "version: v1\nsharing:\n  timeSlicing:\n    resources:\n      - name: \
    nvidia.com/gpu\n        replicas: 10\n";

fn replicas(text: &str) -> u32 {
    quiet(text).layout.sharing.replication().unwrap().resources[0].replicas
}

#[test]
fn yaml_and_json_say_the_same() {
    assert_eq!(replicas(SLICED), 10);
    assert_eq!(
        replicas(concat!(
            r#"{"version":"v1","sharing":{"timeSlicing":{"#,
            r#""resources":[{"name":"nvidia.com\/gpu","replicas":10}]}}}"#
        )),
        10
    );
    assert_eq!(
        replicas(
            "{\n\t\"sharing\": {\n\t\t\"timeSlicing\": {\n\t\t\t\"resources\": \
                [\n\t\t\t\t{\"name\": \"gpu\", \"replicas\": 10}\n\t\t\t]\n\t\t}\n\t}\n}\n"
        ),
        10
    );
    assert_eq!(replicas(&SLICED.replace('\n', "\r\n")), 10);
    assert_eq!(replicas(&format!("\u{feff}{SLICED}")), 10);
}

#[test]
fn anchors_aliases_and_merge_keys_are_followed() {
    let text = "version: v1\nflags: {migStrategy: mixed}\nsharing:\n  timeSlicing:\n    \
        resources:\n    - &one {name: gpu, replicas: 10}\n    - {<<: *one, name: mig-1g.5gb}\n    \
        - {<<: [*one], name: mig-2g.10gb, replicas: 4}\n";
    let resources = quiet(text).layout.sharing.replication().unwrap().resources.clone();
    let seen: Vec<_> =
        resources.iter().map(|resource| (resource.name.base(), resource.replicas)).collect();
    assert_eq!(seen, [("gpu", 10), ("mig-1g.5gb", 10), ("mig-2g.10gb", 4)]);
}

#[test]
fn a_key_that_is_written_twice_counts_once_and_is_told() {
    let warnings = warnings("flags: {migStrategy: mixed}\nFlags:\n  migStrategy: single\n");
    assert_eq!(
        warnings,
        ["/config/config.yaml:1: flags: is written again on line 2, and only that one counts"]
    );
}

#[test]
fn a_second_document_is_told_and_ignored() {
    let text = format!("{SLICED}---\nflags: {{migStrategy: wrong}}\n");
    assert!(
        warnings(&text)[0].contains(":7: a second document begins here"),
        "{:?}",
        warnings(&text)
    );
}

/// As NVIDIA's plugin does, which reads the first one alone.
#[test]
fn a_first_document_that_is_empty_counts() {
    for text in ["---\n---\nflags: {migStrategy: mixed}\n", "# none\n---\n~\n---\na: b\n"] {
        let warnings = warnings(text);
        assert!(
            warnings.len() == 1 && warnings[0].contains("the first document is empty and counts"),
            "{warnings:?}"
        );
        assert_eq!(with_file(text).config().layout, with_file("").config().layout);
    }
}

/// Text, unlike nodes, was once copied without end: this took 3 GB.
#[test]
fn aliases_of_long_texts_are_refused_before_they_are_copied() {
    let long = "x".repeat(500_000);
    let aliases = "*a, ".repeat(100_000);
    for text in [
        format!("a: &a {long}\nb: [{aliases}]"),
        format!("a: &a {{? {long} : 1}}\nb: [{aliases}]"),
        format!("a: &a [&b [&c [&d {long}]]]"),
    ] {
        let mistakes = with_file(&text).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains("expand to more"), "{mistakes:?}");
    }
}

#[test]
fn of_very_many_mistakes_and_warnings_the_first_are_told_and_the_rest_is_counted() {
    let unknown: String = (0..10_000).map(|number| format!("k{number}: 1\n")).collect();
    let warnings = warnings(&unknown);
    assert_eq!(warnings.len(), 101);
    assert_eq!(warnings[100], "9900 more warnings about the configuration");
    let resources = "{name: 7}, ".repeat(1_000);
    let text = format!("sharing: {{timeSlicing: {{resources: [{resources}]}}}}");
    let refused = with_file(&text).load().unwrap_err();
    assert!(refused.0.mistakes.len() == 100 && refused.0.more_mistakes >= 900, "{refused}");
    assert!(refused.to_string().contains(" more\n"));
    // Merged without comparing each key with each.
    let keys: String = (0..30_000).map(|number| format!("k{number}: 1, ")).collect();
    with_file(&format!("{{<<: {{{keys}}}}}")).config();
}

#[test]
fn what_is_no_document_is_refused_with_its_line() {
    for (text, says) in [
        ("flags:\n  a: [1\n", "not YAML or JSON"),
        ("flags:\n\tmigStrategy: none\n", "not YAML or JSON"),
        ("a: b: c", "config.yaml:1: not YAML or JSON"),
        ("devices: [0, !2]", "begins with '!', which marks a YAML tag: put the value in quotes"),
        ("- a\n- b\n", "a list is not a mapping"),
        ("flags: [1]", "config.yaml:1: flags: a list is not a mapping"),
        ("text", "\"text\" is not a mapping"),
        ("? [a]\n: b\n", "a key is a list or a mapping"),
        ("a: &a [*a]", "stands inside the node that it names"),
        ("<<: 3", "a merge key (<<) takes a mapping"),
    ] {
        let mistakes = with_file(text).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{text:?}: {mistakes:?}");
    }
}

#[test]
fn bytes_that_are_no_text_and_files_that_are_too_large_are_refused() {
    let refused = |bytes: Vec<u8>| {
        let file = FileText { path: "c.yaml".into(), content: Ok(bytes) };
        load(&Sources::default(), Some(&file), Purpose::Serve).unwrap_err().to_string()
    };
    assert!(refused(b"version: v1\n\xff\xfe".to_vec()).contains("c.yaml:2: the text is not UTF-8"));
    assert!(refused(vec![b'#'; 2 << 20]).contains("more than 1048576 bytes"));
}

#[test]
fn what_is_deep_or_expands_without_end_is_refused_at_once() {
    let start = std::time::Instant::now();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
    }
    for text in [
        "[".repeat(20_000),
        "{".repeat(20_000),
        "{a: ".repeat(20_000),
        "- ".repeat(20_000),
        "a:\n".to_owned()
            + &(1..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        bomb,
        "? ".repeat(20_000),
        format!("[{}]", "&a [".repeat(20_000)),
        format!("a: [{}]", "x,".repeat(300_000)),
    ] {
        let mistakes = with_file(&text).mistakes();
        assert_eq!(mistakes.len(), 1, "{}", &text[..20]);
        assert!(mistakes[0].starts_with("/config/config.yaml:"), "{mistakes:?}");
    }
    // Not a measurement: a hang is what it would catch.
    assert!(start.elapsed() < std::time::Duration::from_secs(60));
}

/// The status is printed as YAML by a writer of its own.
#[test]
fn what_is_written_is_read_back_as_it_was() {
    let value = serde_json::json!({
        "schemaVersion": 1, "empty": {}, "none": [], "null": null, "version": "0.1.0",
        "on": "no", "5": "5", "text": "a: b # c\n\"d\"",
        "nested": {"list": [{"a": 1, "b": [1, [2, 3]]}, "x", {"c": {"d": true}}]},
    });
    let text = status::yaml(&value);
    assert_eq!(crate::config::yaml(&text).unwrap(), value, "{text}");
    assert!(text.contains("nested:\n  list:\n    - a: 1\n      b:\n"), "{text}");
}
