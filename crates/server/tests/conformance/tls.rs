//! TLS between clients and members and among members: who is let in, who is not, what is said then,
//! and certificates that change while the members run.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::http_client::get;
use crate::process::{Ended, quorate, run, until};

/// Who signs certificates, and where they are kept.
struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    next_serial: u64,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let directory = directory.join(name);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("ca.pem"), certificate.pem()).expect("written");
        Self { directory, issuer: Issuer::new(params, key), next_serial: 1 }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes `name.pem` and `name.key`, for localhost; answers the serial number.
    fn sign(&mut self, name: &str) -> u64 {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned(), format!("{name}.example")];
        let mut params = CertificateParams::new(hosts).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        let serial = self.next_serial;
        self.next_serial += 1;
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).expect("written");
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).expect("written");
        serial
    }

    fn revoke(&self, serials: &[u64]) {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        fs::write(self.file("crl.pem"), list.pem().expect("text")).expect("written");
    }

    /// What a member that shows `name` needs on one side.
    fn flags(&self, prefix: &str, name: &str) -> Vec<String> {
        vec![
            format!("--{prefix}cert-file={}", self.file(&format!("{name}.pem"))),
            format!("--{prefix}key-file={}", self.file(&format!("{name}.key"))),
            format!("--{prefix}trusted-ca-file={}", self.file("ca.pem")),
            format!("--{prefix}client-cert-auth=true"),
        ]
    }
}

/// The URLs of a member, all over TLS.
fn urls(cluster: &Cluster, index: usize) -> Vec<String> {
    let client = format!("https://{}", cluster.client_address(index));
    let peer = |index| format!("https://{}", cluster.peer_address(index));
    let all: Vec<String> =
        (0..cluster.count()).map(|index| format!("m{index}={}", peer(index))).collect();
    vec![
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={}", peer(index)),
        format!("--initial-advertise-peer-urls={}", peer(index)),
        format!("--initial-cluster={}", all.join(",")),
    ]
}

async fn client(cluster: &Cluster, index: usize, arguments: &[&str], flags: &[String]) -> Ended {
    let mut command = quorate();
    let endpoint = format!("--endpoints=https://{}", cluster.client_address(index));
    command.args(arguments).arg(endpoint).args(flags);
    run(command).await
}

async fn until_it_serves(cluster: &Cluster, index: usize, flags: &[String]) {
    until(&format!("m{index} to serve"), async || {
        client(cluster, index, &["put", "a", "1"], flags).await.status == Some(0)
    })
    .await;
}

fn shown(authority: &Authority, name: &str) -> Vec<String> {
    vec![
        format!("--cacert={}", authority.file("ca.pem")),
        format!("--cert={}", authority.file(&format!("{name}.pem"))),
        format!("--key={}", authority.file(&format!("{name}.key"))),
    ]
}

#[tokio::test]
async fn members_and_clients_know_each_other_by_their_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = Authority::new(directory.path(), "ours");
    let mut other = Authority::new(directory.path(), "others");
    for name in ["m0", "m1", "m2", "client"] {
        authority.sign(name);
    }
    other.sign("client");
    let mut cluster = Cluster::prepare(3, &[]);
    for index in 0..3 {
        let name = format!("m{index}");
        let flags =
            [urls(&cluster, index), authority.flags("", &name), authority.flags("peer-", &name)];
        cluster.start_member_with(index, &flags.concat());
    }
    let good = shown(&authority, "client");
    for index in 0..3 {
        until_it_serves(&cluster, index, &good).await;
    }
    let got = client(&cluster, 2, &["get", "a"], &good).await;
    assert_eq!((got.status, got.stdout.as_str()), (Some(0), "1\n"), "{}", got.stderr);

    // Nobody else is let in, and each of them is told why, as far as TLS tells.
    let mut stranger = shown(&other, "client");
    stranger[0] = good[0].clone();
    let refused = client(&cluster, 0, &["get", "a"], &stranger).await;
    assert_eq!(refused.status, Some(3), "{}", refused.stdout);
    let refused = client(&cluster, 0, &["get", "a"], &good[..1]).await;
    assert_eq!(refused.status, Some(3), "{}", refused.stdout);
    assert!(refused.stderr.contains("with --cert and --key"), "{}", refused.stderr);
    let untrusting = client(&cluster, 0, &["get", "a"], &shown(&other, "client")).await;
    assert_eq!(untrusting.status, Some(3), "{}", untrusting.stdout);
    assert!(untrusting.stderr.contains("UnknownIssuer"), "{}", untrusting.stderr);
    assert!(cluster.get(0, "a").await.is_err(), "plain gRPC is not spoken there");
    let log = cluster.log(0);
    let lines = log.lines().filter(|line| line.contains("rejected connection on client endpoint"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() == 1 && lines[0].contains("--trusted-ca-file"), "{lines:?}");
}

#[tokio::test]
async fn a_member_makes_its_own_certificates_once() {
    let mut cluster = Cluster::prepare(3, &[]);
    let flags = ["--auto-tls=true".to_owned(), "--peer-auto-tls".to_owned()];
    for index in 0..3 {
        cluster.start_member_with(index, &[urls(&cluster, index), flags.to_vec()].concat());
    }
    let any = ["--insecure-skip-tls-verify".to_owned()];
    for index in 0..3 {
        until_it_serves(&cluster, index, &any).await;
    }
    let refused = client(&cluster, 0, &["get", "a"], &[]).await;
    assert_eq!(refused.status, Some(3), "{}", refused.stdout);
    let path = cluster.data_directory(0).join("fixtures/client/cert.pem");
    let made = fs::read(&path).expect("it is kept");
    assert!(cluster.data_directory(0).join("fixtures/peer/key.pem").exists());
    assert_eq!(cluster.stop(0).await, Some(0));
    cluster.start_member_with(0, &[urls(&cluster, 0), flags.to_vec()].concat());
    until_it_serves(&cluster, 0, &any).await;
    assert_eq!(fs::read(&path).expect("it is kept"), made);
    // It is for this address, so whoever is given it can trust it.
    let known = [format!("--cacert={}", path.display())];
    let got = client(&cluster, 0, &["get", "a"], &known).await;
    assert_eq!(got.status, Some(0), "{}", got.stderr);
}

/// etcd tells them apart on one port; so may whoever moves clients to TLS one by one.
#[tokio::test]
async fn one_port_serves_plain_connections_beside_those_of_tls() {
    for schemes in [["http", "https"], ["https", "http"]] {
        let mut cluster = Cluster::prepare(1, &[]);
        let address = cluster.client_address(0);
        let urls = schemes.map(|scheme| format!("{scheme}://{address}")).join(",");
        let flags = [
            format!("--listen-client-urls={urls}"),
            format!("--advertise-client-urls={urls}"),
            "--auto-tls=true".to_owned(),
        ];
        cluster.start_member_with(0, &flags);
        until_it_serves(&cluster, 0, &["--insecure-skip-tls-verify".to_owned()]).await;
        assert_eq!(get(&address, "/health").await.status, 200);
        cluster.put(0, "b", "plain").await;
    }
}

#[tokio::test]
async fn new_certificates_and_revocations_need_no_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut before = Authority::new(directory.path(), "before");
    before.sign("m0");
    let serial = before.sign("client");
    before.revoke(&[]);
    let mut cluster = Cluster::prepare(1, &[]);
    let client_url = format!("https://{}", cluster.client_address(0));
    let flags = [
        vec![
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--client-crl-file={}", before.file("crl.pem")),
        ],
        before.flags("", "m0"),
    ];
    cluster.start_member_with(0, &flags.concat());
    let client_of_before = shown(&before, "client");
    until_it_serves(&cluster, 0, &client_of_before).await;

    before.revoke(&[serial]);
    let refused = client(&cluster, 0, &["get", "a"], &client_of_before).await;
    assert_eq!(refused.status, Some(3), "{}", refused.stdout);
    before.revoke(&[]);
    let got = client(&cluster, 0, &["get", "a"], &client_of_before).await;
    assert_eq!(got.status, Some(0), "{}", got.stderr);

    let mut after = Authority::new(directory.path(), "after");
    after.sign("m0");
    after.sign("client");
    for name in ["ca.pem", "m0.key", "m0.pem"] {
        fs::copy(after.file(name), before.file(name)).expect("copied");
    }
    let got = client(&cluster, 0, &["get", "a"], &shown(&after, "client")).await;
    assert_eq!(got.status, Some(0), "{}", got.stderr);
}

#[tokio::test]
async fn a_peer_with_the_wrong_certificate_is_named_once_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut ours = Authority::new(directory.path(), "ours");
    let mut theirs = Authority::new(directory.path(), "theirs");
    for name in ["m0", "m1", "m2"] {
        ours.sign(name);
    }
    theirs.sign("m2");
    let mut cluster = Cluster::prepare(3, &[]);
    for index in 0..3 {
        let authority = if index == 2 { &theirs } else { &ours };
        let plain = format!("http://{}", cluster.client_address(index));
        let peers = [
            urls(&cluster, index)[2..].to_vec(),
            authority.flags("peer-", &format!("m{index}")),
            vec![
                format!("--listen-client-urls={plain}"),
                format!("--advertise-client-urls={plain}"),
            ],
        ];
        cluster.start_member_with(index, &peers.concat());
    }
    cluster.wait_until_it_serves(0).await;
    cluster.put(0, "a", "1").await;
    until("both sides to say so", async || {
        cluster.log(0).contains("rejected connection on peer endpoint")
            && cluster.log(2).contains("--peer-trusted-ca-file")
    })
    .await;
    let log = cluster.log(0);
    let lines = log.lines().filter(|line| line.contains("rejected connection on peer endpoint"));
    assert!(lines.count() <= 2, "{log}");
    assert!(log.contains("--peer-cert-file and --peer-trusted-ca-file of both"), "{log}");
}

#[tokio::test]
async fn only_the_members_that_are_named_are_peers() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = Authority::new(directory.path(), "ours");
    authority.sign("member");
    authority.sign("stranger");
    let mut cluster = Cluster::prepare(3, &["--peer-cert-allowed-cn=member"]);
    for index in 0..3 {
        let name = if index == 2 { "stranger" } else { "member" };
        let plain = format!("http://{}", cluster.client_address(index));
        let flags = [
            urls(&cluster, index)[2..].to_vec(),
            authority.flags("peer-", name),
            vec![
                format!("--listen-client-urls={plain}"),
                format!("--advertise-client-urls={plain}"),
            ],
        ];
        cluster.start_member_with(index, &flags.concat());
    }
    cluster.wait_until_it_serves(0).await;
    cluster.wait_until_it_serves(1).await;
    until("the stranger to be refused", async || {
        cluster.log(0).contains("rejected connection on peer endpoint")
    })
    .await;
    assert!(cluster.get(2, "a").await.is_err());
}

#[tokio::test]
async fn bad_files_are_named_with_their_flag() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = Authority::new(directory.path(), "ours");
    authority.sign("a");
    authority.sign("b");
    let file = |name: &str| authority.file(name);
    fs::write(file("empty"), "").expect("written");
    let secure = "--listen-client-urls=https://127.0.0.1:2379";
    let advertise = "--advertise-client-urls=https://127.0.0.1:2379";
    let pair = |cert: &str, key: &str| {
        vec![format!("--cert-file={}", file(cert)), format!("--key-file={}", file(key))]
    };
    let with = |mut flags: Vec<String>, flag: &str, name: &str| {
        flags.push(format!("--{flag}={}", file(name)));
        flags
    };
    let cases = [
        (pair("missing", "a.key"), vec!["--cert-file: cannot read", "missing"]),
        (pair("a.pem", "missing"), vec!["--key-file: cannot read", "missing"]),
        (pair("empty", "a.key"), vec!["--cert-file:", "holds no certificate"]),
        (pair("a.pem", "empty"), vec!["--key-file:", "holds no key"]),
        (pair("a.pem", "b.key"), vec!["--cert-file and --key-file cannot be used together"]),
        (
            with(pair("a.pem", "a.key"), "trusted-ca-file", "empty"),
            vec!["--trusted-ca-file:", "holds no certificate"],
        ),
        (
            vec![format!("--cert-file={}", file("a.pem"))],
            vec!["--cert-file is given without --key-file"],
        ),
        (
            Vec::new(),
            vec!["https://127.0.0.1:2379", "add --cert-file and --key-file, or --auto-tls"],
        ),
        (
            [pair("a.pem", "a.key"), vec!["--cipher-suites=TLS_NONE".to_owned()]].concat(),
            vec!["unexpected TLS cipher suite \"TLS_NONE\""],
        ),
        (vec!["--tls-min-version=TLS1.1".to_owned()], vec!["--tls-min-version: \"TLS1.1\""]),
        (
            vec!["--tls-min-version=TLS1.3".to_owned(), "--tls-max-version=TLS1.2".to_owned()],
            vec!["--tls-min-version is later than --tls-max-version"],
        ),
    ];
    let (port, peer) = (crate::process::free_port(), crate::process::free_port());
    for (flags, words) in cases {
        let mut command = quorate();
        command.arg("server").current_dir(directory.path());
        let free = |text: &str| text.replace("2379", &port.to_string());
        command.args([free(secure), free(advertise)]);
        let peer_url = format!("http://127.0.0.1:{peer}");
        command.arg(format!("--listen-peer-urls={peer_url}")).args(&flags);
        let ended = run(command).await;
        assert_eq!(ended.status, Some(1), "{flags:?}: {}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap_or_default().to_owned();
        let words = words.iter().map(|word| free(word));
        for word in words {
            assert!(last.contains(&word), "{flags:?}: {last} lacks {word}");
        }
    }
}

/// As many as a crowd that reconnects at once, or one who wants to keep it out.
#[tokio::test]
async fn many_who_say_nothing_keep_nobody_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = Authority::new(directory.path(), "ours");
    authority.sign("m0");
    authority.sign("client");
    let mut cluster = Cluster::prepare(1, &[]);
    let client_url = format!("https://{}", cluster.client_address(0));
    let urls = vec![
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
    ];
    cluster.start_member_with(0, &[urls, authority.flags("", "m0")].concat());
    let shown = shown(&authority, "client");
    until_it_serves(&cluster, 0, &shown).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        let connection = TcpStream::connect(cluster.client_address(0)).await;
        silent.push(connection.expect("it listens"));
    }
    let got = client(&cluster, 0, &["get", "a"], &shown).await;
    assert_eq!((got.status, got.stdout.as_str()), (Some(0), "1\n"), "{}", got.stderr);
}
