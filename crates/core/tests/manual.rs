//! The examples of `docs/pipeline.md` are what the manual says of them.

use hgci_core::pipeline;

const MANUAL: &str = include_str!("../../../docs/pipeline.md");

/// The fenced blocks of the manual: language, text, line.
fn blocks() -> Vec<(&'static str, String, usize)> {
    let mut blocks = Vec::new();
    let mut lines = MANUAL.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|(line, _)| *line != "```");
            let text: String = text.map(|(line, _)| format!("{line}\n")).collect();
            blocks.push((language, text, number));
        }
    }
    blocks
}

#[test]
fn pipelines_in_the_manual_are_read_or_refused_as_it_says() {
    let blocks = blocks();
    let (mut right, mut wrong) = (0, 0);
    for (place, (language, text, line)) in blocks.iter().enumerate() {
        let told = match pipeline::parse(pipeline::FILE, text.as_bytes()) {
            Ok(_) => String::new(),
            Err(mistakes) => mistakes.iter().map(|mistake| format!("{mistake}\n")).collect(),
        };
        match *language {
            "toml" => {
                assert_eq!(told, "", "line {line}");
                right += 1;
            }
            "toml,wrong" => {
                let (kind, said, _) = &blocks[place + 1];
                assert_eq!((*kind, said), ("text", &told), "line {line}");
                wrong += 1;
            }
            _ => {}
        }
    }
    assert!(right >= 4 && wrong >= 2, "{right} {wrong}");
}
