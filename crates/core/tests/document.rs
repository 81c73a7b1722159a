//! Every mistake of a document is told, each at the line and column where it is.

#[path = "fuzzing/memory.rs"]
mod memory;

use std::time::{Duration, Instant};

use hgci_core::document::{Document, MAX_MISTAKES, MAX_SIZE, Mistake};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// The most memory that a file of 1 MiB may need, whatever is in it.
const MAX_MEMORY: usize = 128 << 20;

/// What is wrong with `text`, as a person would see it.
fn told(text: &str) -> Vec<String> {
    mistakes(text.as_bytes()).iter().map(Mistake::to_string).collect()
}

/// Reads a small language that has every kind of value.
fn mistakes(bytes: &[u8]) -> Vec<Mistake> {
    let document = match Document::parse("f", bytes) {
        Ok(document) => document,
        Err(mistakes) => return mistakes,
    };
    let mut root = document.root();
    root.take("text").and_then(|value| value.string());
    root.take("flag").and_then(|value| value.boolean());
    root.take("number").and_then(|value| value.count());
    root.take("time").and_then(|value| value.duration());
    root.take("size").and_then(|value| value.size());
    root.take("list").and_then(|value| value.strings());
    root.take("either").and_then(|value| value.string_or_strings());
    root.take("word").and_then(|value| value.one_of(&[("heads", 1), ("every", 2), ("tip", 3)]));
    if let Some(mut table) = root.take("table").and_then(|value| value.table()) {
        table.need("name").and_then(|value| value.string());
        table.refuse("later", "not yet", Some("wait"));
        table.finish();
    }
    for mut table in root.take("many").and_then(|value| value.tables()).unwrap_or_default() {
        table.need("name").and_then(|value| value.string());
        table.finish();
    }
    root.finish();
    document.finish(()).err().unwrap_or_default()
}

#[test]
fn a_document_without_mistakes_gives_its_values() {
    let text = "n = 7\nt = '1h30m'\ns = '64KiB'\nl = ['a', 'b']\n[z]\nx = 1\n[a]\nx = 2\n";
    let document = Document::parse("f", text.as_bytes()).unwrap();
    let mut root = document.root();
    assert_eq!(root.need("n").and_then(|v| v.integer()), Some(7));
    assert_eq!(root.need("t").and_then(|v| v.duration()), Some(Duration::from_secs(5400)));
    assert_eq!(root.need("s").and_then(|v| v.size()), Some(65536));
    let list = root.need("l").and_then(|v| v.strings()).unwrap_or_default();
    assert_eq!(list.iter().map(|(text, _)| *text).collect::<Vec<_>>(), ["a", "b"]);
    let order: Vec<_> = root.entries().iter().map(|(key, _)| key.text()).collect();
    assert_eq!(order, ["n", "t", "s", "l", "z", "a"], "the order of the file");
    assert!(root.take("none").is_none());
    assert_eq!(document.finish(3), Ok(3));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_its_order() {
    let text = "\
tetx = 'x'
flag = 'yes'
number = -1
time = 90
size = '3MB'
list = 'one'
either = [1, 'ok', 2.5]
word = 'haeds'

[table]
later = 1
[[many]]
name = 1979-05-27
[[many]]
nmae = 'x'
[[many]]
";
    assert_eq!(
        told(text),
        [
            "f:1:1: unknown key `tetx` (did you mean `text`?)",
            "f:2:8: `flag`: expected `true` or `false`, found a string",
            "f:3:10: `number`: must not be negative",
            "f:4:8: `time`: expected a duration, found an integer (write \"90s\", \"10m\" or \"1h30m\")",
            "f:5:8: `size`: `3MB`: not a size; write \"64KiB\", \"512MiB\" or \"1GiB\"",
            "f:6:8: `list`: expected an array of strings, found a string (write [\"one\"])",
            "f:7:11: `either`: expected a string, found an integer (put it in quotes)",
            "f:7:20: `either`: expected a string, found a float (put it in quotes)",
            "f:8:8: `word`: unknown value `haeds` (did you mean `heads`?)",
            "f:10:1: `name` in `table` is missing",
            "f:11:1: not yet (wait)",
            "f:13:8: `many.name`: expected a string, found a date or time (put it in quotes)",
            "f:15:1: unknown key `nmae` in `many` (did you mean `name`?)",
            "f:16:1: `name` in `many` is missing",
        ]
    );
}

#[test]
fn an_unknown_key_that_is_near_nothing_lists_what_is_known() {
    assert_eq!(
        told("[table]\nname = 'x'\ncolour = 'red'\n"),
        ["f:3:1: unknown key `colour` in `table` (known here: `name`)"]
    );
}

#[test]
fn keys_that_are_given_twice_are_told_with_the_rest() {
    assert_eq!(
        told("text = 'a'\ntext = 'b'\n[table]\nname = 'x'\n[table]\nx = 1\n"),
        [
            "f:2:1: `text` is given twice (a key or a table may be given once)",
            "f:5:2: `table` is given twice (a key or a table may be given once)",
            "f:6:1: unknown key `x` in `table` (known here: `name`)",
        ]
    );
    assert_eq!(
        told("table.name = 'a'\n[table]\n"),
        ["f:2:2: `table` is given twice (a key or a table may be given once)"]
    );
    assert_eq!(
        told("text = 'a'\ntext.more = 1\n"),
        ["f:2:1: cannot extend value of type string with a dotted key: `text`"]
    );
}

#[test]
fn mistakes_of_syntax_are_told_once_a_line() {
    assert_eq!(
        told("text = \nflag = true\n[table\nnumber = 08\nsize = \"\\q\"\ntime = 1h\n"),
        [
            "f:1:8: the value is missing",
            "f:3:7: unclosed table, expected `]`",
            "f:4:10: unexpected leading zero",
            "f:5:10: missing escaped value, expected `b` or `e` or `f` or `n` or `r` or `\\` or `\"` or `x` or `u` or `U`",
            "f:6:8: a string must be quoted",
        ]
    );
}

#[test]
fn columns_count_characters_and_lines_end_in_any_way() {
    let place = |text: &str| {
        let found = mistakes(text.as_bytes());
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        (found[0].line, found[0].column)
    };
    assert_eq!(place("x = 1\n"), (1, 1));
    assert_eq!(place("text = 'a'\r\nx = 1\r\n"), (2, 1));
    assert_eq!(place("\t\tx = 1"), (1, 3));
    assert_eq!(place("\u{feff}x = 1\n"), (1, 1), "a byte order mark is no column");
    assert_eq!(place("\u{feff}text = 'é'\n\u{20}x = 1\n"), (2, 2));
    assert_eq!(place("either = ['éü€😀', 1]\n"), (1, 19));
    assert_eq!(place("text = 'never closed"), (1, 21));
    assert_eq!(place("text = 'a' # a comment with \u{1}"), (1, 29));
    assert_eq!(place("list = [\n  'a',\n  'b'\n"), (3, 6));
}

#[test]
fn what_is_not_utf_8_is_told_with_its_place() {
    let shown = |bytes: &[u8]| mistakes(bytes)[0].to_string();
    assert_eq!(
        shown(b"text = 'a'\ntext2 = '\xc3\xa9\xff'\n"),
        "f:2:11: byte 0xff is not UTF-8 (save the file as UTF-8)"
    );
    assert_eq!(shown(b"\xfe\xff\0t"), "f:1:1: byte 0xfe is not UTF-8 (save the file as UTF-8)");
    assert_eq!(
        shown(b"text = '\xe2\x82"),
        "f:1:9: byte 0xe2 is not UTF-8 (save the file as UTF-8)"
    );
}

#[test]
fn a_mistake_is_the_same_in_json() {
    let mistake = &mistakes(b"tetx = 1")[0];
    assert_eq!(
        serde_json::to_value(mistake).unwrap(),
        serde_json::json!({"file": "f", "line": 1, "column": 1,
            "message": "unknown key `tetx`", "hint": "did you mean `text`?"})
    );
}

#[test]
fn hostile_documents_are_refused_in_bounded_time_and_space() {
    let full = |unit: &str| unit.repeat(MAX_SIZE / unit.len());
    let nested = |open: &str, close: &str, n: usize| {
        format!("text = {}1{}\n", open.repeat(n), close.repeat(n))
    };
    let lines = |line: &dyn Fn(usize) -> String, n: usize| (0..n).map(line).collect::<String>();
    let documents = [
        ("opened arrays", format!("x = {}", &full("[")[..MAX_SIZE - 4])),
        ("opened tables", format!("x = {}", &full("{a=")[..MAX_SIZE - 4])),
        ("headers", full("[")),
        ("closers", full("]")),
        ("a dotted key", format!("{}a = 1", &full("a.")[..MAX_SIZE - 6])),
        ("a dotted header", format!("[{}a]", &full("a.")[..MAX_SIZE - 4])),
        ("dots", full(".")),
        ("equals", full("=")),
        ("commas", format!("x = [{}", &full(",")[..MAX_SIZE - 5])),
        ("quotes", full("\"")),
        ("backslashes", format!("x = \"{}", &full("\\q")[..MAX_SIZE - 5])),
        ("nothing", full("\0")),
        ("lines", full("\n")),
        ("returns", full("\r")),
        ("comments", full("#\n")),
        ("marks", full("\u{feff}")),
        ("many keys", lines(&|n| format!("{n}=1\n"), 100_000)),
        ("one key", full("a=1\n")),
        ("many headers", lines(&|n| format!("[t{n}]\n"), 80_000)),
        ("one header", full("[table]\n")),
        ("one list", full("[[many]]\n")),
        ("deep headers", lines(&|n| format!("[a.b.c.d.e.f.g.h.i.j.k.l.m.n{n}]\n"), 25_000)),
        ("wrong lines", full("a b\n")),
        ("wrong values", format!("either = [{}]", &full("1,")[..MAX_SIZE - 12])),
        ("a key that multiplies", {
            let dots = "a.".repeat(70);
            format!("{}{}1{}\n", dots, format!("a = {{{dots}").repeat(70), "}".repeat(70))
        }),
        ("arrays", nested("[", "]", 200_000)),
        ("tables", nested("{a=", "}", 200_000)),
        // The parser tells the end of `[x]` without its begin, as if the table were closed.
        ("tables with skipped lists", full("{a=1 [x] b=")),
        ("lists with skipped tables", full("[{a={1} b=[")),
        ("open tables and ends of lists", full("e = {t = ['a/*.xma]a]'b']\n")),
    ];
    for (what, text) in documents {
        assert!(text.len() <= MAX_SIZE, "{what}: {}", text.len());
        let started = Instant::now();
        // With 2 MiB of stack, as threads have.
        let (found, memory) = std::thread::scope(|scope| {
            scope.spawn(|| memory::peak(|| mistakes(text.as_bytes()))).join().unwrap()
        });
        let took = started.elapsed();
        eprintln!("{what}: {} mistakes in {took:?}, {} MiB", found.len(), memory >> 20);
        assert!(memory < MAX_MEMORY, "{what}: {memory}");
        assert!(found.len() <= MAX_MISTAKES + 1, "{what}");
        let harmless = ["lines", "comments"].contains(&what);
        assert_eq!(found.is_empty(), harmless, "{what}");
        // Orders of magnitude above what it takes; only what is not linear gets near.
        assert!(took < Duration::from_secs(60), "{what}: {took:?}");
    }
    let large = " ".repeat(MAX_SIZE + 1);
    assert_eq!(
        told(&large),
        [
            "f:1:1: the file is too large: 1048577 bytes, at most 1048576 are read (put what is long into files of its own)"
        ]
    );
}

#[test]
fn tables_as_deep_as_people_write_them_are_fine() {
    let parse = |text: &str| Document::parse("f", text.as_bytes()).map(|_| ());
    assert_eq!(parse("a.b.c = { d.e = 1, f.g.h = 2, i = [[1], { j.k = 3 }] }\nl.m = 1\n"), Ok(()));
    let pairs: Vec<_> = (0..100).map(|n| format!("a{n}.b = 1")).collect();
    assert_eq!(parse(&format!("x = {{ {} }}\n{}\n", pairs.join(", "), pairs.join("\n"))), Ok(()));
    assert_eq!(parse(&format!("x = {}{}\n", "[".repeat(32), "]".repeat(32))), Ok(()));
    let deep = parse(&format!("x = {}{}\n", "[".repeat(33), "]".repeat(33))).unwrap_err();
    assert_eq!(deep[0].to_string(), "f:1:37: nested too deeply, more than 32 levels");
}
