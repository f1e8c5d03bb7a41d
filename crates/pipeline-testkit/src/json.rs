//! JSON text laid out for a person, without reading it into a tree: numbers and member order stay
//! the vendor's.

/// The value over several lines, indented by two spaces. Text that is not JSON comes out as
/// something similar.
pub(crate) fn pretty(json: &[u8]) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut text = String::from_utf8_lossy(json).into_owned();
    text.retain(|letter| letter != '\r');
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                out.push('"');
                string(&mut letters, &mut out);
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other if other.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

/// The value on one line, without white space between its parts.
pub(crate) fn compact(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                out.push('"');
                string(&mut letters, &mut out);
            }
            other if other.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

fn string(letters: &mut impl Iterator<Item = char>, out: &mut String) {
    while let Some(letter) = letters.next() {
        out.push(letter);
        match letter {
            '\\' => out.extend(letters.next()),
            '"' => return,
            _ => {}
        }
    }
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_white_space_only() {
        let json = br#"{"b":[1, {"x":"a, \"b\": {}"}],
            "a":{ },"n":1.10}"#;
        assert_eq!(
            pretty(json),
            "{\n  \"b\": [\n    1,\n    {\n      \"x\": \"a, \\\"b\\\": {}\"\n    }\n  ],\n  \"a\": {},\n  \"n\": 1.10\n}"
        );
        assert_eq!(
            compact(json),
            r#"{"b":[1,{"x":"a, \"b\": {}"}],"a":{},"n":1.10}"#
        );
    }
}
