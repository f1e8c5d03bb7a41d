//! Takes secrets out of text that a vendor sent and that a person will read.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Request;

/// Longest excerpt of a body.
const EXCERPT: usize = 1 << 10;
/// Longest title of a web page.
const TITLE: usize = 200;
/// Shorter values are no secrets, and replacing them would make text unreadable.
const SHORTEST: usize = 4;
const REDACTED: &str = "[redacted]";

/// The values that authentication added to a request, in every form in which a server may echo them.
pub(super) fn secrets(plain: &Request, authenticated: &Request) -> Vec<String> {
    let mut secrets = Vec::new();
    for (name, value) in &authenticated.headers {
        if plain.headers.get(name) == Some(value) {
            continue;
        }
        let Ok(value) = value.to_str() else { continue };
        let (scheme, credential) = value.split_once(' ').unwrap_or(("", value));
        secrets.push(credential.to_owned());
        if scheme.eq_ignore_ascii_case("basic")
            && let Some(pair) = BASE64_STANDARD.decode(credential).ok().and_then(|pair| String::from_utf8(pair).ok())
        {
            let (user, password) = pair.split_once(':').unwrap_or(("", &pair));
            secrets.push(password.to_owned());
            secrets.extend(password.is_empty().then(|| user.to_owned()));
        }
    }
    let added = authenticated.query.iter().filter(|pair| !plain.query.contains(pair));
    secrets.extend(added.map(|(_, value)| value.clone()));
    let encoded: Vec<_> =
        secrets.iter().flat_map(|secret| [percent_encoded(secret), json_escaped(secret), BASE64_STANDARD.encode(secret)]).collect();
    secrets.extend(encoded);
    secrets.retain(|secret| secret.len() >= SHORTEST);
    // The longest first, so that no part of one is left over.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

fn percent_encoded(secret: &str) -> String {
    url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()
}

fn json_escaped(secret: &str) -> String {
    serde_json::to_string(secret).map(|quoted| quoted.trim_matches('"').to_owned()).unwrap_or_default()
}

/// The beginning of a body, fit for an error: no secret, no query string, no control character. Of a web page it is the title.
pub(super) fn excerpt(body: &[u8], secrets: &[String]) -> Option<String> {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), REDACTED);
    }
    let text = without_queries(&without_masked(&text));
    let text = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let excerpt = &text[..text.floor_char_boundary(EXCERPT)];
    if excerpt.starts_with('<') { title(&text) } else { Some(excerpt.to_owned()).filter(|excerpt| !excerpt.is_empty()) }
}

/// What a web page calls itself, which is all that a person would read of it.
fn title(page: &str) -> Option<String> {
    let start = find_ignoring_case(page, "<title")?;
    let (_, text) = page[start..].split_once('>')?;
    let text = text[..find_ignoring_case(text, "</title")?].trim();
    let text = &text[..text.floor_char_boundary(TITLE)];
    (!text.is_empty()).then(|| format!("a web page, \"{text}\""))
}

fn find_ignoring_case(text: &str, part: &str) -> Option<usize> {
    text.as_bytes().windows(part.len()).position(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// Replaces words with asterisks in the middle: a server masked a secret there and left its ends.
fn without_masked(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*');
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        let masked = word.contains("***") && word.chars().any(char::is_alphanumeric);
        out.push_str(if masked { REDACTED } else { word });
        out.push_str(&piece[word.len()..]);
    }
    out
}

/// Replaces `?name=value…` up to the end of the word or string it is in.
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('?') {
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '\\')).unwrap_or(after.len());
        out.push_str(before);
        out.push('?');
        if after[..end].contains('=') {
            out.push('…');
            rest = &after[end..];
        } else {
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn of_a_web_page_the_title_is_told() {
        let cases = [
            (
                "<!DOCTYPE html><html><head><TITLE lang=en> Attention\n Required </TITLE></head><body>1 < 2</body>",
                Some("a web page, \"Attention Required\""),
            ),
            ("<html><title></title>", None),
            ("<html><title>cut", None),
            ("<html>log in</html>", None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(excerpt(body.as_bytes(), &[]).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn the_ends_of_a_masked_secret_are_taken_out_too() {
        let cases = [
            ("Invalid API Key provided: sk_test_*****1234", "Invalid API Key provided: [redacted]"),
            ("{\"message\":\"The key 'rk_live_***9z' may not\"}", "{\"message\":\"The key '[redacted]' may not\"}"),
            ("2 * 3 *** note **", "2 * 3 *** note **"),
        ];
        for (body, expected) in cases {
            assert_eq!(excerpt(body.as_bytes(), &[]).as_deref(), Some(expected));
        }
    }
}
