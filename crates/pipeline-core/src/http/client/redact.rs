//! Takes secrets out of text that a vendor sent and that a person will read.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use memchr::memmem;

use crate::http::CredentialGeneration;
use crate::http::client::decoded::Decoded;
use crate::message::Request;

/// Longest excerpt of a body.
const EXCERPT: usize = 1 << 10;
/// Longest title of a web page.
const TITLE: usize = 200;
/// Longest id of a request that is shown.
const ID: usize = 200;
/// Shorter values are not secrets, and replacing them would make text unreadable.
const SHORTEST: usize = 4;
/// An encoded form, or the beginning of a secret that was cut off, is looked for from this length
/// on: less is found by chance.
const SHORTEST_PART: usize = 8;
/// How often text may be encoded over itself.
const LAYERS: usize = 3;
/// Values that a client keeps: those of several credentials that replaced each other.
const MOST_VALUES: usize = 64;
const REDACTED: &str = "[redacted]";

/// Secrets, and every form in which others may repeat them: as they are, in letters of either case,
/// or backwards; in base64 and base64url, padded or not, alone or within longer text; in
/// hexadecimal digits of either case. Text is searched as it is and with its escapes read:
/// percent-encoding of whichever characters, JSON, and HTML.
#[derive(Clone, Default)]
pub struct Secrets {
    forms: Vec<Form>,
}

#[derive(Clone, PartialEq, Eq)]
struct Form {
    text: Vec<u8>,
    any_case: bool,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// All forms of these values. Values of fewer than four characters are left out.
    pub fn new(values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut forms = Vec::new();
        for value in values {
            let value = value.as_ref().as_bytes();
            if value.len() >= SHORTEST {
                let lower = value.to_ascii_lowercase();
                if value.len() >= SHORTEST_PART {
                    forms.push(Form {
                        text: lower.iter().rev().copied().collect(),
                        any_case: true,
                    });
                }
                forms.push(Form {
                    text: lower,
                    any_case: true,
                });
                let encoded = base64_forms(value).into_iter().map(|text| Form {
                    text: text.into_bytes(),
                    any_case: false,
                });
                forms.extend(encoded.filter(|form| form.text.len() >= SHORTEST_PART));
                forms.push(Form {
                    text: hex(value),
                    any_case: true,
                });
            }
        }
        Self { forms }
    }

    /// The text with `[redacted]` in the place of every secret, and of one whose end was cut off
    /// with the text's.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut spans = Vec::new();
        if !self.forms.is_empty() {
            let mut view = Decoded::plain(text.as_bytes());
            self.search(&view, &mut spans);
            for _ in 0..LAYERS {
                let Some(inner) = view.decoded() else { break };
                self.search(&inner, &mut spans);
                view = inner;
            }
        }
        if spans.is_empty() {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(without(text, spans))
        }
    }

    fn search(&self, view: &Decoded, spans: &mut Vec<Range<usize>>) {
        let lower = view.bytes().to_ascii_lowercase();
        for Form { text, any_case } in &self.forms {
            let bytes = if *any_case { &lower[..] } else { view.bytes() };
            spans.extend(memmem::find_iter(bytes, text).map(|at| view.source(at..at + text.len())));
            spans.extend(cut_off(bytes, text).map(|at| view.source(at..bytes.len())));
        }
    }
}

/// Where a form begins that the text ends within.
fn cut_off(bytes: &[u8], form: &[u8]) -> Option<usize> {
    let beginning = form.get(..SHORTEST_PART)?;
    let from = bytes.len().saturating_sub(form.len() - 1);
    memmem::find_iter(&bytes[from..], beginning)
        .map(|at| from + at)
        .find(|at| form.starts_with(&bytes[*at..]))
}

/// A value in base64, whole and as a part of something longer: there it can begin at three places
/// of a group, and the characters at its ends hold bits of what is around it.
fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut forms = vec![
        STANDARD.encode(value),
        STANDARD_NO_PAD.encode(value),
        URL_SAFE.encode(value),
        URL_SAFE_NO_PAD.encode(value),
    ];
    for (shift, touched) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0; 2][..shift], value].concat();
        let whole = bytes.len() * 8 / 6;
        forms.extend(
            [
                STANDARD_NO_PAD.encode(&bytes),
                URL_SAFE_NO_PAD.encode(&bytes),
            ]
            .map(|text| text[touched..whole].to_owned()),
        );
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Lower-case digits.
fn hex(value: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    value
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 0xF)],
            ]
        })
        .collect()
}

fn without(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for span in spans {
        let (from, until) = (
            text.floor_char_boundary(span.start),
            text.ceil_char_boundary(span.end),
        );
        if from > end || end == 0 {
            out.push_str(&text[end..from]);
            out.push_str(REDACTED);
        }
        end = end.max(until);
    }
    out.push_str(&text[end..]);
    out
}

/// The secrets of a client: what its requests carried so far, and what its authenticator holds
/// besides.
#[derive(Debug, Default)]
pub(crate) struct Redactor(Mutex<Known>);

#[derive(Default)]
struct Known {
    values: VecDeque<String>,
    secrets: Arc<Secrets>,
    /// The issue of the credential of which the authenticator was asked for its secrets.
    generation: Option<CredentialGeneration>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Redactor {
    /// True when the authenticator has not been asked since this credential was issued.
    pub(crate) fn is_new(&self, generation: CredentialGeneration) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .generation
            .replace(generation)
            != Some(generation)
    }

    /// All secrets so far, these included. Those of a credential that was replaced stay: an answer
    /// can be late.
    pub(crate) fn learn(&self, values: impl IntoIterator<Item = String>) -> Arc<Secrets> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = values
            .into_iter()
            .filter(|value| !known.values.contains(value))
            .collect();
        if !new.is_empty() {
            known.values.extend(new);
            let surplus = known.values.len().saturating_sub(MOST_VALUES);
            known.values.drain(..surplus);
            known.secrets = Arc::new(Secrets::new(&known.values));
        }
        Arc::clone(&known.secrets)
    }
}

/// The values that authentication added to a request: whole headers, and what of them is the
/// credential.
pub(crate) fn values(plain: &Request, authenticated: &Request) -> Vec<String> {
    let mut values = Vec::new();
    for (name, value) in &authenticated.headers {
        if plain.headers.get(name) == Some(value) {
            continue;
        }
        let Ok(value) = value.to_str() else { continue };
        values.extend(header_values(value));
    }
    let added = authenticated
        .query
        .iter()
        .filter(|pair| !plain.query.contains(pair));
    values.extend(added.map(|(_, value)| value.clone()));
    values
}

/// What of a header's value is secret: all of it, the credential, and of a user and a password the
/// pair and the password.
pub(crate) fn header_values(value: &str) -> Vec<String> {
    let (scheme, credential) = value.split_once(' ').unwrap_or(("", value));
    let mut values = vec![value.to_owned(), credential.to_owned()];
    if scheme.eq_ignore_ascii_case("basic")
        && let Some(pair) = STANDARD
            .decode(credential)
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
    {
        let (user, password) = pair.split_once(':').unwrap_or(("", &pair));
        values.push(password.to_owned());
        values.extend(password.is_empty().then(|| user.to_owned()));
        values.push(pair);
    }
    values
}

/// A vendor's id of a request, fit to be shown: one short word without a secret.
pub(crate) fn request_id(id: &str, secrets: &Secrets) -> String {
    let hidden = secrets.hide(id);
    hidden
        .chars()
        .filter(|character| !character.is_control())
        .take(ID)
        .collect()
}

/// The beginning of a body, fit for an error: no secret, no query string, no control character. Of
/// a web page it is the title.
pub(crate) fn excerpt(body: &[u8], secrets: &Secrets) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = without_queries(&without_masked(&secrets.hide(&text)));
    let text = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let excerpt = &text[..text.floor_char_boundary(EXCERPT)];
    if excerpt.starts_with('<') {
        title(&text)
    } else {
        Some(excerpt.to_owned()).filter(|excerpt| !excerpt.is_empty())
    }
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
    text.as_bytes()
        .windows(part.len())
        .position(|window| window.eq_ignore_ascii_case(part.as_bytes()))
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
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '\\'))
            .unwrap_or(after.len());
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn of_a_web_page_the_title_is_told() {
        let cases = [
            (
                "<!DOCTYPE html><html><head><TITLE lang=en> Attention\n Required \
                 </TITLE></head><body>1 < 2</body>",
                Some("a web page, \"Attention Required\""),
            ),
            ("<html><title></title>", None),
            ("<html><title>cut", None),
            ("<html>log in</html>", None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(
                excerpt(body.as_bytes(), &Secrets::default()).as_deref(),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn the_ends_of_a_masked_secret_are_taken_out_too() {
        let cases = [
            (
                "Invalid API Key provided: sk_test_*****1234",
                "Invalid API Key provided: [redacted]",
            ),
            (
                "{\"message\":\"The key 'rk_live_***9z' may not\"}",
                "{\"message\":\"The key '[redacted]' may not\"}",
            ),
            ("2 * 3 *** note **", "2 * 3 *** note **"),
        ];
        for (body, expected) in cases {
            assert_eq!(
                excerpt(body.as_bytes(), &Secrets::default()).as_deref(),
                Some(expected)
            );
        }
    }

    /// However long the text is and wherever it was cut.
    #[test]
    fn a9_a_secret_that_was_cut_off_is_hidden_too() {
        let secret = "sk_live_51HqLyjWDarjtT1zdp7dc";
        let secrets = Secrets::new([secret]);
        let whole = format!("key: {secret}");
        for end in 0..=whole.len() {
            let hidden = secrets.hide(&whole[..end]);
            assert!(!hidden.contains("sk_live_"), "{hidden}");
        }
        assert_eq!(
            secrets.hide(&format!("a {secret}{secret} b {secret}")),
            "a [redacted] b [redacted]"
        );
        assert_eq!(secrets.hide("nothing of it"), "nothing of it");
    }

    #[test]
    fn no_more_of_a_body_and_of_a_title_is_shown_than_a_person_reads() {
        let shown = |body: &str| excerpt(body.as_bytes(), &Secrets::default()).unwrap();
        assert_eq!(shown(&"x".repeat(5_000)).len(), 1_024);
        assert_eq!(
            shown(&format!("x{}", "é".repeat(5_000))).len(),
            1_023,
            "no character is cut"
        );
        let title = |length: usize| shown(&format!("<title>{}</title>", "x".repeat(length)));
        assert_eq!(title(200), format!("a web page, \"{}\"", "x".repeat(200)));
        assert_eq!(title(201), title(200));
        assert_eq!(shown(" a\u{0}b\t\n\u{7f} c  "), "a b c");
        assert_eq!(excerpt(b" \n\0 ", &Secrets::default()), None);
    }

    #[test]
    fn queries_are_left_out_of_text() {
        for (text, expected) in [
            (
                "see https://a.test/b?c=d&e=f for more",
                "see https://a.test/b?… for more",
            ),
            ("\"/b?c=d\",'/e?f=g'", "\"/b?…\",'/e?…'"),
            ("really? yes=no", "really? yes=no"),
            ("what??x=1", "what?…"),
            ("</b?c=d>`/e?f=g`\\/h?i=j\\n", "</b?…>`/e?…`\\/h?…\\n"),
            ("?", "?"),
        ] {
            assert_eq!(without_queries(text), expected);
        }
    }

    #[test]
    fn an_id_is_one_short_word_without_a_secret() {
        let secrets = Secrets::new(["sk_live_1234"]);
        assert_eq!(
            request_id("req_1\r\n\u{7f}sk_live_1234", &secrets),
            "req_1[redacted]"
        );
        assert_eq!(request_id(&"x".repeat(300), &secrets).len(), 200);
    }

    #[test]
    fn what_is_too_short_to_be_a_secret_is_left_in_the_text() {
        let secrets = Secrets::new(["abc", "wxyz"]);
        assert_eq!(secrets.hide("abc wxyz"), "abc [redacted]");
        assert_eq!(
            secrets.hide("d3h5eg== d3h5eg 7778797a 7778797A"),
            "[redacted] d3h5eg [redacted] [redacted]"
        );
    }

    #[test]
    fn whole_characters_are_taken_out_once_where_secrets_overlap() {
        let secrets = Secrets::new(["abcdefgh", "efghijkl"]);
        assert_eq!(
            secrets.hide("abcdefghijkl and efghijkl"),
            "[redacted] and [redacted]"
        );
        assert_eq!(secrets.hide("é%61bcdefghé"), "é[redacted]é");
        assert_eq!(without("éaé", vec![1..3, 3..4]), "[redacted]");
        assert_eq!(
            without("abcdef", vec![4..5, 0..1]),
            "[redacted]bcd[redacted]f"
        );
    }

    #[test]
    fn an_authenticator_is_asked_once_for_each_credential_that_it_issues() {
        let redactor = Redactor::default();
        let generations = [0, 0, 1, 1, 0].map(|number| redactor.is_new(number));
        assert_eq!(generations, [true, false, true, false, true]);
    }

    #[test]
    fn the_credentials_that_replaced_each_other_are_all_kept_up_to_a_number() {
        let redactor = Redactor::default();
        let first = redactor.learn(["secret-0".to_owned()]);
        assert!(
            Arc::ptr_eq(&first, &redactor.learn(["secret-0".to_owned()])),
            "nothing is new"
        );
        let hides = |secrets: &Secrets, number: usize| {
            secrets.hide(&format!("secret-{number}")) == "[redacted]"
        };
        let all = redactor.learn((0..64).map(|number| format!("secret-{number}")));
        assert!((0..64).all(|number| hides(&all, number)));
        let later = redactor.learn(["secret-64".to_owned()]);
        assert_eq!(
            [0, 1, 63, 64].map(|number| hides(&later, number)),
            [false, true, true, true]
        );
    }

    #[test]
    fn what_authentication_added_is_secret_and_nothing_else() {
        let mut plain = Request::new(
            super::super::Method::GET,
            "https://api.test/things".parse().unwrap(),
        );
        plain
            .headers
            .insert("accept", "application/json".parse().unwrap());
        plain.set_query("limit", "1000");
        let mut authenticated = plain.clone();
        assert_eq!(values(&plain, &authenticated), [""; 0]);
        authenticated
            .headers
            .insert("authorization", "Bearer sk_live_1234".parse().unwrap());
        authenticated
            .headers
            .insert("accept", "other/than-before".parse().unwrap());
        authenticated.set_query("api_key", "sk_live_5678");
        let mut found = values(&plain, &authenticated);
        found.sort();
        assert_eq!(
            found,
            [
                "Bearer sk_live_1234",
                "other/than-before",
                "other/than-before",
                "sk_live_1234",
                "sk_live_5678"
            ]
        );
    }

    #[test]
    fn of_a_user_and_a_password_the_password_is_secret_and_a_user_alone_is() {
        let basic = |pair: &str| header_values(&format!("bAsic {}", STANDARD.encode(pair)));
        assert_eq!(basic("user:pass")[2..], ["pass", "user:pass"]);
        assert_eq!(basic("user:")[2..], ["", "user", "user:"]);
        assert_eq!(basic("pass")[2..], ["pass", "pass"]);
        assert_eq!(
            header_values("Basic ***"),
            ["Basic ***", "***"],
            "not base64"
        );
        let bearer = format!("Bearer {}", STANDARD.encode("user:pass"));
        assert_eq!(header_values(&bearer), [bearer.as_str(), &bearer[7..]]);
        assert_eq!(header_values("key"), ["key", "key"]);
    }
}
