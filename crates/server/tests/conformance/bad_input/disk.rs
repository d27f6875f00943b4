//! Disks that are full, and bits that flip. A member that cannot write what it must stops, and one
//! that reads what it did not write does not start; neither loses or changes anything.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{FAULT, QUICK, REFUSED, assert_no_panic, refused, says, skipped};
use crate::cluster::{Cluster, put};
use crate::process::until;

/// The file below the directory that holds these bytes, and where.
fn find(directory: &Path, wanted: &[u8]) -> (PathBuf, usize) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        // Batches lie at whole sectors, so only what is not all zeros needs a closer look.
        for (number, block) in bytes.chunks(4096).enumerate() {
            if block.iter().any(|&byte| byte != 0)
                && let Some(at) = block.windows(wanted.len()).position(|found| found == wanted)
            {
                return (path, number * 4096 + at);
            }
        }
    }
    panic!("{} is nowhere in {}", String::from_utf8_lossy(wanted), directory.display());
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_acknowledged_is_found_and_left_as_it_is() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let flipped = (cluster.leader().await + 1) % 3;
    for number in 0..5 {
        cluster.put(flipped, "key", &format!("acknowledged value {number}")).await;
    }
    cluster.wait_until_caught_up(flipped).await;
    cluster.kill(flipped);
    for number in [1, 3, 4] {
        let value = format!("acknowledged value {number}");
        let (file, at) = find(&cluster.data_directory(flipped).join("log"), value.as_bytes());
        let good = fs::read(&file).expect("a segment");
        let mut bad = good.clone();
        bad[at + 5] ^= 0x10;
        fs::write(&file, &bad).expect("written");
        let sector = format!("is damaged at byte {}", at / 512 * 512);
        let words = &[&file.display().to_string(), &sector, "checksum", "nothing was changed"];
        refused(cluster.command(flipped), REFUSED, &words.map(|word| word as &str)).await;
        assert!(fs::read(&file).expect("there") == bad, "the file was changed");
        fs::write(&file, &good).expect("written");
    }
    let other = (flipped + 1) % 3;
    cluster.put(other, "meanwhile", "value").await;
    cluster.start_member(flipped);
    cluster.wait_until_it_serves(flipped).await;
    let value = cluster.get(flipped, "key").await.expect("served");
    assert_eq!(value, Some(b"acknowledged value 4".to_vec()));
    assert_no_panic(&cluster);
}

/// Each segment has its header twice; one that is damaged is written anew, and the operator told.
#[tokio::test]
async fn a_damaged_copy_of_a_header_is_mended_and_told() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "key", "value").await;
    cluster.kill(0);
    let log = cluster.data_directory(0).join("log");
    let segments = fs::read_dir(&log).expect("a log").map(|entry| entry.expect("an entry").path());
    let segment = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .min()
        .expect("a segment");
    let good = fs::read(&segment).expect("a segment");
    let mut bad = good.clone();
    bad[20] ^= 0x10;
    fs::write(&segment, &bad).expect("written");
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    let words = [&segment.display().to_string(), "was damaged", "written anew", "WARN"];
    says(&cluster.log(0), &words.map(|word| word as &str));
    assert_eq!(cluster.get(0, "key").await.expect("served"), Some(b"value".to_vec()));
    assert_eq!(fs::read(&segment).expect("a segment")[..512], good[..512], "it is whole again");
}

/// A limit of the process is the one kind of full disk that needs no rights to make.
#[tokio::test]
async fn a_log_that_cannot_be_made_for_want_of_room_is_made_later() {
    const BYTES_MAX: libc::rlim_t = 1 << 20;
    let mut cluster = Cluster::prepare(1, QUICK);
    let mut limited = cluster.command(0);
    let limit = || {
        let limit = libc::rlimit { rlim_cur: BYTES_MAX, rlim_max: BYTES_MAX };
        // SAFETY: the call is async-signal-safe and reads only `limit`.
        match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { limited.pre_exec(limit) };
    let shown = cluster.data_directory(0).display().to_string();
    refused(limited, FAULT, &["data directory", &shown, "File too large"]).await;
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    assert_no_panic(&cluster);
}

/// A file system in memory, of a few megabytes, for as long as this lives.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None` where that is not allowed.
    fn mount(path: &Path, mebibytes: u64) -> Option<Self> {
        fs::create_dir_all(path).expect("a directory");
        let disk = Self { path: path.to_owned() };
        disk.run(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "quorate"]).then_some(disk)
    }

    fn grow(&self, mebibytes: u64) {
        assert!(self.run(&["-o", &format!("remount,size={mebibytes}m")]), "it cannot grow");
    }

    fn run(&self, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(&self.path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        // Lazily: a member that a failed test leaves behind is killed a moment later.
        let _ = unmount.arg("-l").arg(&self.path).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_member_and_loses_nothing() {
    // Less than a segment; then one segment, and part of the next.
    const TOO_SMALL: u64 = 8;
    const ONE_SEGMENT: u64 = 24;
    const ROOM: u64 = 300;
    let mut cluster = Cluster::prepare(1, QUICK);
    let Some(disk) = SmallDisk::mount(&cluster.data_directory(0), TOO_SMALL) else {
        skipped("only root can make a small disk");
        return;
    };
    let shown = cluster.data_directory(0).display().to_string();
    let words = ["data directory", &shown, "no space is left", "make room"];
    refused(cluster.command(0), FAULT, &words).await;

    disk.grow(ONE_SEGMENT);
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    let value = "x".repeat(1_500_000);
    let mut acknowledged = Vec::new();
    let error = loop {
        let key = format!("key{:03}", acknowledged.len());
        match cluster.kv(0).put(put(key.clone(), value.clone())).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 100, "more than the disk has room for");
    };
    // Whether the last one was done is not known.
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert_eq!(cluster.ended(0).await, Some(FAULT));
    let log = cluster.log(0);
    let last = log.lines().last().unwrap_or_default();
    says(last, &["quorate server: stopped", &shown, "no space is left", "make room"]);
    assert_eq!(log.matches("could not be prepared").count(), 1, "{log}");

    disk.grow(ROOM);
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    until("the member to have applied its log", async || {
        let last = acknowledged.last().expect("some were acknowledged");
        cluster.get(0, last).await.is_ok_and(|value| value.is_some())
    })
    .await;
    for key in &acknowledged {
        let found = cluster.get(0, key).await.expect("served");
        assert!(found.as_deref() == Some(value.as_bytes()), "{key} was acknowledged");
    }
    cluster.put(0, "room", "again").await;
    assert_no_panic(&cluster);
    drop(cluster);
    drop(disk);
}
