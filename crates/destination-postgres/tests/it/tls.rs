//! Connections that nobody listens to, with a server that is who it says.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use destination_postgres::{PostgresConfig, PostgresDestination, Tls};
use pipeline_core::ErrorKind;
use pipeline_engine::{Destination as _, Generation};
use pipeline_testkit::destination_suite::{commit, row, store, table};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::is_skipped;
use pipeline_testkit::postgres::Cluster;

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_no_other() {
    if is_skipped("a_private_authority_is_trusted_when_it_is_named_and_no_other") {
        return;
    }
    let cluster = Cluster::start(false);
    let dir = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let path = dir.path().join(format!("{name}.pem"));
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        (Issuer::new(params, key), path)
    };
    let ((ours, ca), (_, others)) = (authority("ours"), authority("others"));
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    let owner = std::fs::metadata(cluster.dir.join("data")).unwrap().uid();
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let path = cluster.dir.join("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner), None).unwrap();
    }
    cluster.run("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.run("postgres", "SELECT pg_reload_conf()");
    while cluster.run("postgres", "SHOW ssl") != "on" {
        tokio::task::yield_now().await;
    }
    let open = async |host: &str, tls: Option<Tls>, ca: Option<&std::path::Path>| {
        let url = format!("postgres://postgres@{host}:{}/postgres", cluster.port);
        PostgresDestination::open(PostgresConfig {
            tls,
            ca: ca.map(ToOwned::to_owned),
            ..PostgresConfig::new(url)
        })
        .await
    };
    let verified = open("localhost", Some(Tls::Verify), Some(&ca))
        .await
        .unwrap();
    let events = table("events", &[], Generation::Current);
    store(&verified, &[(&events, vec![row(1, "a")])], &commit(vec![]))
        .await
        .unwrap();
    let encrypted = "SELECT count(*) > 0 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND a.application_name = 'pipeline'";
    assert_eq!(cluster.run("postgres", encrypted), "t");
    open("127.0.0.1", Some(Tls::Encrypt), None).await.unwrap();
    open("127.0.0.1", None, None)
        .await
        .unwrap()
        .check()
        .await
        .unwrap();
    for (host, ca) in [
        ("localhost", None),
        ("localhost", Some(&*others)),
        ("127.0.0.1", Some(&*ca)),
    ] {
        let error = open(host, Some(Tls::Verify), ca)
            .await
            .expect_err("it cannot be trusted");
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{host}: {error:?}");
        assert!(error.help().is_some(), "{error:?}");
    }
    let missing = dir.path().join("missing.pem");
    let error = open("localhost", Some(Tls::Verify), Some(&missing))
        .await
        .expect_err("there is no such file");
    assert_eq!(error.context_value("field"), Some("ca"));
    // A server without TLS is not spoken to in the clear.
    cluster.run("postgres", "ALTER SYSTEM SET ssl = off");
    cluster.run("postgres", "SELECT pg_reload_conf()");
    while cluster.run("postgres", "SHOW ssl") != "off" {
        tokio::task::yield_now().await;
    }
    let error = open("localhost", Some(Tls::Encrypt), None)
        .await
        .expect_err("it has no TLS");
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
}
