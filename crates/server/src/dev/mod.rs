//! A cluster on one machine, for trying things out: real `quorate server` processes, so that one
//! can be killed and be seen to come back, under a supervisor that starts, watches and stops them.
//!
//! ```text
//!   <data-dir>/cluster.json       names, ports and token; made once
//!   <data-dir>/m1/                the data of the first member, and so on
//!   <data-dir>/m1.log             what it logs; m1.log.1 is that of the start before
//!   <data-dir>/quorate-dev.lock   held while the cluster runs
//! ```

mod child;
mod layout;
mod state;

use std::fmt::Display;
use std::io::{self, Write, stdout};
use std::path::{Path, PathBuf};

use quorate_disk::{Disk, DiskError, RealDisk};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::member::stop_requested;
use child::{Child, News};
use layout::Layout;
use state::EndpointsRecord;

/// A cluster of more would only be slower.
pub(crate) const MEMBERS_MAX: usize = 9;
/// News from the members that may wait to be printed.
const NEWS_WAITING_MAX: usize = 64;

/// What `quorate dev` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct DevOptions {
    /// Where the cluster lives; the user's state directory where none was named.
    pub(crate) data_directory: Option<PathBuf>,
    /// How many members; 3, or what the directory has.
    pub(crate) members: Option<usize>,
    /// Whether to forget what the directory has.
    pub(crate) fresh: bool,
}

/// Why there is no cluster. Each text is one line that names the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DevError {
    #[error("neither XDG_STATE_HOME nor HOME is set: name a directory with --data-dir")]
    NoStateDirectory,
    #[error("{} is in use by another 'quorate dev': stop that one, or name another --data-dir", .0.display())]
    InUse(PathBuf),
    #[error("{} is not empty and not a directory of 'quorate dev': name another --data-dir", .0.display())]
    Foreign(PathBuf),
    #[error("{} cannot be made: name another --data-dir", .0.display())]
    NotMade(PathBuf),
    #[error("{} is damaged ({error}): restore it, or begin anew with --fresh", path.display())]
    Damaged { path: PathBuf, error: serde_json::Error },
    #[error("{} was written by a later version of quorate (format {found}, this one knows {known})", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the cluster in {} has {found} members: leave --members out, or begin anew with --fresh", directory.display())]
    OtherMembers { directory: PathBuf, found: usize },
    #[error(
        "port {port} of member {name} is in use: stop what listens there, or begin anew with --fresh"
    )]
    PortTaken { port: u16, name: String },
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the cluster until it is asked to stop.
///
/// # Errors
/// Why there is none.
pub(crate) fn run(options: &DevOptions) -> Result<(), DevError> {
    let directory = match &options.data_directory {
        Some(directory) => directory.clone(),
        None => state::state_directory().ok_or(DevError::NoStateDirectory)?.join("dev"),
    };
    layout::refuse_foreign(&directory)?;
    RealDisk.create_directory(&directory).map_err(|error| match error {
        // The system says that of a place where nothing can be made.
        DiskError::NotFound { .. } => DevError::NotMade(directory.clone()),
        error => error.into(),
    })?;
    let directory = std::path::absolute(&directory)?;
    let _lock = RealDisk.lock(&directory.join(layout::LOCK_FILE)).map_err(|error| match error {
        DiskError::Locked { .. } => DevError::InUse(directory.clone()),
        error => error.into(),
    })?;
    if options.fresh {
        layout::clear(&directory)?;
    }
    let layout = Layout::load_or_create(&directory, options.members)?;
    let program = std::env::current_exe()?;
    // The members die with the thread that started them, so this must be the main thread's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&program, &directory, &layout))
}

async fn supervise(program: &Path, directory: &Path, layout: &Layout) -> Result<(), DevError> {
    let record = EndpointsRecord::claim_of_user()?;
    let (stop, _) = watch::channel(false);
    let (news, mut heard) = mpsc::channel(NEWS_WAITING_MAX);
    let mut children = JoinSet::new();
    for member in &layout.members {
        let arguments = layout.arguments(directory, member);
        let child = Child::new(program, directory, member.name.clone(), arguments);
        children.spawn(child.keep_running(stop.subscribe(), news.clone()));
    }
    drop(news);
    let members = match layout.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    say(format_args!("quorate dev: starting {members} in {}\n", directory.display()));
    for moved in layout.moved_ports() {
        say(format_args!("quorate dev: {moved}\n"));
    }
    let mut waited_for: Vec<&str> = layout.members.iter().map(|m| m.name.as_str()).collect();
    let stopping = stop_requested();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            _signal = &mut stopping => break,
            Some((name, news)) = heard.recv() => {
                say(format_args!("quorate dev: {name} {news}\n"));
                if !matches!(news, News::Ready) || waited_for.is_empty() {
                    continue;
                }
                waited_for.retain(|waited| **waited != *name);
                if waited_for.is_empty() {
                    if let Some(record) = &record {
                        record.write(&layout.endpoints())?;
                    }
                    say(layout.welcome(directory, record.is_some()));
                }
            }
        }
    }
    say(format_args!("quorate dev: stopping\n"));
    let _ = stop.send(true);
    while children.join_next().await.is_some() {}
    if let Some(record) = &record {
        record.remove(&layout.endpoints())?;
    }
    say(format_args!("quorate dev: stopped; start it again to go on with the data\n"));
    Ok(())
}

/// Tells the user. A terminal that was closed is no reason to stop the cluster.
fn say(text: impl Display) {
    let _ = write!(stdout(), "{text}");
}
