//! Which hosts are this machine itself.

use url::Url;

/// True for a host that is this machine itself: `localhost` and names below it, 127.0.0.0/8, and
/// `::1`, written as IPv4 or not.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => {
            address.is_loopback()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|address| address.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machine_has_many_names() {
        let hosts = [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.8.7",
            "127.1",
            "2130706433",
            "[::1]",
        ];
        for host in hosts.into_iter().chain(["[::ffff:127.0.0.1]"]) {
            assert!(
                is_loopback(&Url::parse(&format!("http://{host}:8080/a")).unwrap()),
                "{host}"
            );
        }
        for host in [
            "localhost.example.com",
            "notlocalhost",
            "128.0.0.1",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "169.254.1.1",
        ] {
            assert!(
                !is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()),
                "{host}"
            );
        }
    }
}
