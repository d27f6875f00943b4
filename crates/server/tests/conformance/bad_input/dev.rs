//! `quorate dev`: what it does when its ports, its directory or its life are taken from it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard};

use super::{REFUSED, refused, says};
use crate::process::{Process, quorate, run, until};

/// Clusters that start at the same time could choose the same ports.
static PORTS: Mutex<()> = Mutex::const_new(());

/// A development cluster in a directory of its own, with a home of its own.
struct Dev {
    home: TempDir,
    _ports: MutexGuard<'static, ()>,
}

impl Dev {
    async fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a directory"), _ports: PORTS.lock().await }
    }

    fn data_directory(&self) -> std::path::PathBuf {
        self.home.path().join("quorate/dev")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = quorate();
        command
            .args(arguments)
            .env("XDG_STATE_HOME", self.home.path())
            .env_remove("QUORATE_ENDPOINTS")
            .env_remove("ETCDCTL_ENDPOINTS");
        command
    }

    fn output(&self) -> String {
        fs::read_to_string(self.home.path().join("output")).unwrap_or_default()
    }

    /// Starts it and waits until it says that the cluster is up.
    async fn start(&self, arguments: &[&str]) -> Process {
        let output = fs::File::create(self.home.path().join("output")).expect("a file");
        let mut command = self.command(&[&["dev"], arguments].concat());
        command.stdout(output.try_clone().expect("a second handle")).stderr(output);
        let process = Process::start(&mut command);
        until("the cluster to be up", async || self.output().contains("The cluster is up")).await;
        process
    }

    /// Where its members serve clients.
    fn endpoints(&self) -> Vec<String> {
        let recorded = fs::read_to_string(self.home.path().join("quorate/endpoints"));
        recorded.expect("recorded").trim().split(',').map(str::to_owned).collect()
    }

    async fn get(&self, key: &str) -> (Option<i32>, String) {
        let got = run(self.command(&["get", key])).await;
        (got.status, got.stdout)
    }

    fn logs(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let directory = fs::read_dir(self.data_directory()).expect("a directory");
        let paths = directory.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_file()).map(|path| read(&path)).collect()
    }
}

/// Whether nobody listens at any of them any more.
async fn all_gone(endpoints: &[String]) -> bool {
    for endpoint in endpoints {
        if TcpStream::connect(endpoint).await.is_ok() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_cluster_goes_on_with_its_data_however_it_ended() {
    let dev = Dev::new().await;
    // The first ports that it would take are somebody else's, ours or another test's.
    let _taken =
        (TcpListener::bind("127.0.0.1:2379").await, TcpListener::bind("127.0.0.1:2381").await);
    let mut process = dev.start(&[]).await;
    let endpoints = dev.endpoints();
    assert_eq!(endpoints.len(), 3);
    says(&dev.output(), &["2379 was in use when the cluster was made: m1 listens on "]);
    let put = run(dev.command(&["put", "kept", "value"])).await;
    assert_eq!((put.status, put.stderr.as_str()), (Some(0), ""));

    let in_use = dev.command(&["dev"]);
    refused(in_use, REFUSED, &["is in use by another 'quorate dev'", "--data-dir"]).await;

    // kill -9 of the supervisor ends the members too.
    drop(process);
    until("the members to end", async || all_gone(&endpoints).await).await;
    process = dev.start(&[]).await;
    assert_eq!(dev.endpoints(), endpoints, "the ports are remembered");
    assert_eq!(dev.get("kept").await, (Some(0), "value\n".to_owned()));

    process.terminate();
    assert_eq!(process.ended().await, Some(0));
    assert!(all_gone(&endpoints).await);
    says(&dev.output(), &["start it again to go on with the data"]);

    let words = ["has 3 members", "--fresh"];
    refused(dev.command(&["dev", "--members=5"]), REFUSED, &words).await;
    let foreign = TcpListener::bind(&endpoints[1]).await.expect("it was let go");
    let port = foreign.local_addr().expect("bound").port().to_string();
    let words = ["port", &port, "of member m2 is in use"];
    refused(dev.command(&["dev"]), REFUSED, &words).await;
    drop(foreign);

    let mut fresh = dev.start(&["--fresh", "--members=1"]).await;
    assert_eq!(dev.endpoints().len(), 1);
    assert_eq!(dev.get("kept").await, (Some(1), String::new()));
    fresh.terminate();
    assert_eq!(fresh.ended().await, Some(0));
    says(&dev.logs(), &["ready to serve client requests"]);
}

#[tokio::test]
async fn a_second_cluster_leaves_the_first_where_clients_find_it() {
    let dev = Dev::new().await;
    let mut first = dev.start(&["--members=1"]).await;
    says(&dev.output(), &["starting 1 member in"]);
    let endpoints = dev.endpoints();
    let put = run(dev.command(&["put", "whose", "first"])).await;
    assert_eq!((put.status, put.stderr.as_str()), (Some(0), ""));

    let elsewhere = dev.home.path().join("elsewhere");
    let directory = elsewhere.to_str().expect("a plain path");
    let mut second = dev.start(&["--members=1", "--data-dir", directory]).await;
    says(&dev.output(), &[" --endpoints=127.0.0.1:", " get greeting"]);
    assert_eq!(dev.endpoints(), endpoints);
    second.terminate();
    assert_eq!(second.ended().await, Some(0));
    assert_eq!(dev.get("whose").await, (Some(0), "first\n".to_owned()));

    first.terminate();
    assert_eq!(first.ended().await, Some(0));
    assert!(!dev.home.path().join("quorate/endpoints").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_its_own_is_left_alone() {
    let dev = Dev::new().await;
    let directory = dev.home.path().join("papers");
    fs::create_dir(&directory).expect("made");
    fs::write(directory.join("thesis.txt"), "years of work").expect("written");
    for fresh in [&[][..], &["--fresh"]] {
        let mut command = dev.command(&["dev"]);
        command.arg("--data-dir").arg(&directory).args(fresh).stdin(Stdio::null());
        let words = ["is not empty and not a directory of 'quorate dev'", "--data-dir"];
        refused(command, REFUSED, &words).await;
    }
    assert_eq!(fs::read_dir(&directory).expect("there").count(), 1);
    let mut file = dev.command(&["dev"]);
    file.arg("--data-dir").arg(directory.join("thesis.txt"));
    refused(file, REFUSED, &["thesis.txt"]).await;
    let nowhere = dev.command(&["dev", "--data-dir", "/proc/nowhere"]);
    refused(nowhere, REFUSED, &["/proc/nowhere cannot be made", "--data-dir"]).await;
}
