//! Where requests go: segments of paths made of ids, and paths below a base URL that has one
//! itself.

use url::Url;

/// A text as one segment of a path. Every byte is escaped that RFC 3986 does not call unreserved,
/// so `+`, `%`, `/` and `?` of an id stay what they are: servers differ in what they take an
/// unescaped `+` for.
///
/// None for the empty text, `.` and `..`: escaped or not, URLs take them for a folder, so no path
/// leads to what has such an id.
///
/// ```
/// use pipeline_core::http::path_segment;
///
/// assert_eq!(path_segment("Pro+ $699/month").as_deref(), Some("Pro%2B%20%24699%2Fmonth"));
/// assert_eq!(path_segment(".."), None);
/// ```
pub fn path_segment(text: impl AsRef<[u8]>) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let text = text.as_ref();
    if matches!(text, b"" | b"." | b"..") {
        return None;
    }
    let mut segment = String::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(char::from(*byte));
        } else {
            let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
            segment.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
        }
    }
    Some(segment)
}

/// The address of a vendor's path below a base URL: `/v1/charges` below `https://gateway/shop` is
/// `https://gateway/shop/v1/charges`.
///
/// Only requests that a connector's [`HttpClient`](crate::http::HttpClient) does not send need this,
/// such as those to a token endpoint: all others are made with the vendor's own path, and the client
/// puts that of the base URL before it.
///
/// # Errors
/// When the path is not one that a URL can have.
pub fn below(base: &Url, path: &str) -> Result<Url, url::ParseError> {
    base.join(&format!("{}{path}", mount(base)))
}

/// A base URL without its path.
pub(crate) fn root(base: &Url) -> Url {
    let mut root = base.clone();
    root.set_path("");
    root
}

/// The path of a base URL, without a slash at its end; empty when it has none.
pub(crate) fn mount(base: &Url) -> &str {
    base.path().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The segment that a server sees at the end of the path of a URL made of it.
    fn sent(segment: &str) -> Vec<u8> {
        let url = Url::parse("https://host")
            .unwrap()
            .join(&format!("/v1/plans/{segment}"))
            .unwrap();
        assert_eq!((url.query(), url.fragment()), (None, None), "{segment}");
        let (folder, segment) = url.path().rsplit_once('/').unwrap();
        assert_eq!(folder, "/v1/plans");
        // As a form would be read: some servers take a plus for a space.
        let (name, _) = url::form_urlencoded::parse(segment.as_bytes())
            .next()
            .unwrap_or_default();
        name.into_owned().into_bytes()
    }

    #[test]
    fn every_byte_arrives_as_it_is() {
        for byte in 0..=u8::MAX {
            let segment = path_segment([b'a', byte, b'z']).unwrap();
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let escaped = if is_plain {
                format!("a{}z", char::from(byte))
            } else {
                format!("a%{byte:02X}z")
            };
            assert_eq!(segment, escaped);
        }
        for character in (0..=255).map(char::from) {
            let id = format!("a{character}z");
            assert_eq!(
                sent(&path_segment(&id).unwrap()),
                id.as_bytes(),
                "{character:?}"
            );
        }
    }

    #[test]
    fn ids_that_people_choose_arrive_as_they_are() {
        for id in [
            "Professional+",
            "Pro plan $699/month",
            "735*%24",
            "%2F",
            "%",
            "a?b#c",
            "a&b=c;d",
            "...",
            " ",
            "\u{1F600}",
            "größe",
            "a\\b",
        ] {
            assert_eq!(sent(&path_segment(id).unwrap()), id.as_bytes(), "{id}");
        }
        for id in ["", ".", ".."] {
            assert_eq!(path_segment(id), None, "{id}");
        }
    }

    #[test]
    fn the_path_of_a_base_url_stays() {
        for (base, expected) in [
            ("https://host", "https://host/v1/charges"),
            ("https://host/", "https://host/v1/charges"),
            ("https://host/shop", "https://host/shop/v1/charges"),
            ("https://host/a/b//", "https://host/a/b/v1/charges"),
        ] {
            assert_eq!(
                below(&Url::parse(base).unwrap(), "/v1/charges")
                    .unwrap()
                    .as_str(),
                expected
            );
        }
    }
}
