//! The program under the name `etcd`: what harnesses, kubeadm and compose files start it with, and
//! what they wait for.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http_client::get;
use crate::process::{Process, free_port, quorate, run, until};

/// A directory with the program in it, under the name of etcd.
struct Installed {
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
}

impl Installed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = quorate().get_program().to_owned();
        std::os::unix::fs::symlink(program, directory.path().join("etcd")).expect("a link");
        Self { directory, client_port: free_port(), peer_port: free_port() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn etcd(&self) -> Command {
        let mut command = Command::new(self.path().join("etcd"));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// All that a member needs, in etcd's names.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", "m0".to_owned()),
            ("data-dir", self.path().join("data").display().to_string()),
            ("listen-client-urls", self.client_url()),
            ("advertise-client-urls", self.client_url()),
            ("listen-peer-urls", self.peer_url()),
            ("initial-advertise-peer-urls", self.peer_url()),
            ("initial-cluster", format!("m0={}", self.peer_url())),
            ("initial-cluster-state", "new".to_owned()),
        ]
    }

    fn start(&self, mut command: Command) -> Process {
        let log = File::create(self.path().join("log")).expect("a file");
        Process::start(command.stdout(Stdio::null()).stderr(log))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    async fn until_ready(&self) {
        until("the readiness line", async || self.log().contains("ready to serve client requests"))
            .await;
        let address = format!("127.0.0.1:{}", self.client_port);
        assert_eq!(get(&address, "/health").await.status, 200);
    }
}

#[tokio::test]
async fn flags_as_a_harness_passes_them() {
    let installed = Installed::new();
    let mut etcd = installed.etcd();
    for (flag, value) in installed.settings() {
        etcd.arg(format!("--{flag}={value}"));
    }
    // Twice, with one dash, spellings of before, and what only tunes etcd.
    etcd.args(["--initial-cluster-token=old", "--initial-cluster-token", "new"])
        .args(["-snapshot-count=10000", "--snapshot-count=5", "--quota-backend-bytes=0"])
        .args(["--feature-gates=InitialCorruptCheck=true", "--strict-reconfig-check=false"])
        .args(["--experimental-initial-corrupt-check=true", "--enable-v2", "--logger", "zap"])
        .args(["--watch-progress-notify-interval=5s", "--log-outputs=stderr"]);
    let mut process = installed.start(etcd);
    installed.until_ready().await;
    let log = installed.log();
    let idle = log.lines().filter(|line| line.contains("flags without effect"));
    assert_eq!(idle.count(), 1, "{log}");
    process.terminate();
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test]
async fn the_environment_as_a_compose_file_sets_it() {
    let installed = Installed::new();
    let mut etcd = installed.etcd();
    for (flag, value) in installed.settings() {
        etcd.env(format!("ETCD_{}", flag.to_uppercase().replace('-', "_")), value);
    }
    let directory = installed.path().join("notify");
    let manager = UnixDatagram::bind(&directory).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    etcd.env("ETCD_VERIFY", "all").env("NOTIFY_SOCKET", &directory);
    let _process = installed.start(etcd);
    installed.until_ready().await;
    assert!(installed.log().contains("unrecognized environment variable"), "{}", installed.log());
    let told = tokio::task::spawn_blocking(move || {
        let mut told = [0; 16];
        let length = manager.recv(&mut told).expect("it tells the service manager");
        told[..length].to_vec()
    });
    assert_eq!(told.await.expect("it does not panic"), b"READY=1\n");
    assert!(directory.as_os_str().as_bytes().len() < 100);
}

#[tokio::test]
async fn a_file_says_it_all() {
    let installed = Installed::new();
    let mut text = String::from("# etcd's own form\npre-vote: true\nheartbeat-interval: 100\n");
    for (flag, value) in installed.settings() {
        text.push_str(&format!("{flag}: '{value}'\n"));
    }
    let file = installed.path().join("etcd.conf.yml");
    fs::write(&file, &text).expect("written");
    let mut etcd = installed.etcd();
    // Flags and variables beside a file do not count.
    etcd.arg("--config-file").arg(&file).arg("--name=other").env("ETCD_NAME", "third");
    let process = installed.start(etcd);
    installed.until_ready().await;
    assert!(installed.log().contains("\"name\":\"m0\""), "{}", installed.log());
    drop(process);

    let mut etcd = installed.etcd();
    etcd.env("ETCD_CONFIG_FILE", &file);
    let _process = installed.start(etcd);
    installed.until_ready().await;

    let mut etcd = installed.etcd();
    etcd.arg("--config-file=missing.yml");
    let ended = run(etcd).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("--config-file: cannot read missing.yml"), "{}", ended.stderr);
    fs::write(&file, "a: [").expect("written");
    let mut etcd = installed.etcd();
    etcd.arg("--config-file").arg(&file);
    let ended = run(etcd).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("neither YAML nor JSON"), "{}", ended.stderr);
}

/// Tests and scripts that want nothing but a member that runs leave the port to the system.
#[tokio::test]
async fn clients_are_served_at_whatever_port_is_free() {
    let installed = Installed::new();
    let mut etcd = installed.etcd();
    for (flag, value) in installed.settings() {
        let any = flag.ends_with("client-urls");
        let value = if any { "http://127.0.0.1:0".to_owned() } else { value };
        etcd.arg(format!("--{flag}={value}"));
    }
    let _process = installed.start(etcd);
    until("it to serve", async || installed.log().contains("ready to serve client requests")).await;
    let log = installed.log();
    let line = log.lines().find(|line| line.contains("listening on a port that was free"));
    let line: serde_json::Value = serde_json::from_str(line.expect("it says which")).expect("JSON");
    let address = line["address"].as_str().expect("an address");
    assert_eq!(get(address, "/health").await.status, 200);
}

#[tokio::test]
async fn it_says_which_version_of_etcd_it_stands_in_for() {
    let installed = Installed::new();
    let mut etcd = installed.etcd();
    etcd.arg("--version");
    let ended = run(etcd).await;
    assert_eq!(ended.status, Some(0));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    for (line, start) in lines[1..].iter().zip(["Git SHA: ", "Go Version: ", "Go OS/Arch: "]) {
        assert!(line.starts_with(start), "{line}");
    }
    let mut etcd = installed.etcd();
    etcd.args(["--version", "--emulated-version=3.6.9"]);
    assert!(run(etcd).await.stdout.starts_with("etcd Version: 3.6.9\n"));
    let mut etcd = installed.etcd();
    etcd.arg("--emulated-version=newest");
    let ended = run(etcd).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("--emulated-version: \"newest\""), "{}", ended.stderr);
    let mut etcd = installed.etcd();
    etcd.arg("--nonsense");
    assert_eq!(run(etcd).await.status, Some(2));
}
