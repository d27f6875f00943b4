//! What a development cluster is made of: names and ports, chosen once and then remembered, since
//! the members' identities are derived from them.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state::io_error;
use super::{DevError, MEMBERS_MAX};
use crate::random::random_u64;

pub(super) const LOCK_FILE: &str = "quorate-dev.lock";
const LAYOUT_FILE: &str = "cluster.json";
const FORMAT: u32 = 1;
const MEMBERS_DEFAULT: usize = 3;
/// etcd's client port; the peers' is the next, and so on upwards, two for each member.
const FIRST_PORT: u16 = 2379;

/// The whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    format: u32,
    /// Tells this cluster from every other that used the same ports.
    token: String,
    pub(super) members: Vec<DevMember>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DevMember {
    pub(super) name: String,
    client_port: u16,
    peer_port: u16,
}

impl Layout {
    /// Reads what the directory remembers, or chooses and writes it.
    pub(super) fn load_or_create(
        directory: &Path,
        members: Option<usize>,
    ) -> Result<Self, DevError> {
        let path = directory.join(LAYOUT_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let layout: Self = serde_json::from_slice(&bytes)
                    .map_err(|error| DevError::Damaged { path: path.clone(), error })?;
                if layout.format > FORMAT {
                    return Err(DevError::Newer { path, found: layout.format, known: FORMAT });
                }
                let found = layout.members.len();
                if members.is_some_and(|members| members != found) {
                    return Err(DevError::OtherMembers { directory: directory.to_owned(), found });
                }
                layout.check_ports()?;
                Ok(layout)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // What a removal that was interrupted left belongs to no cluster.
                clear(directory)?;
                let layout = Self::choose(members.unwrap_or(MEMBERS_DEFAULT))?;
                let text = serde_json::to_vec_pretty(&layout)
                    .map_err(|error| DevError::Damaged { path: path.clone(), error })?;
                let temporary = directory.join("cluster.json.new");
                fs::write(&temporary, text)
                    .and_then(|()| fs::rename(&temporary, &path))
                    .map_err(|error| io_error(&path, error))?;
                Ok(layout)
            }
            Err(error) => Err(io_error(&path, error)),
        }
    }

    fn choose(members: usize) -> Result<Self, DevError> {
        let mut preferred = FIRST_PORT..;
        // Held until all are chosen, so that no two members get the same.
        let mut held = Vec::new();
        let mut choose = || {
            let preferred = preferred.next().and_then(|port| listen(port).ok());
            let listener = preferred.map_or_else(|| listen(0), Ok)?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok::<_, std::io::Error>(port)
        };
        let mut chosen = Vec::new();
        for number in 1..=members.min(MEMBERS_MAX) {
            let (client_port, peer_port) = (choose()?, choose()?);
            chosen.push(DevMember { name: format!("m{number}"), client_port, peer_port });
        }
        let token = format!("quorate-dev-{:016x}", random_u64());
        Ok(Self { format: FORMAT, token, members: chosen })
    }

    fn check_ports(&self) -> Result<(), DevError> {
        for member in &self.members {
            for port in [member.client_port, member.peer_port] {
                if listen(port).is_err() {
                    return Err(DevError::PortTaken { port, name: member.name.clone() });
                }
            }
        }
        Ok(())
    }

    /// The flags of one member's process.
    pub(super) fn arguments(&self, directory: &Path, member: &DevMember) -> Vec<String> {
        let url = |port| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            self.members.iter().map(|m| format!("{}={}", m.name, url(m.peer_port))).collect();
        vec![
            "server".to_owned(),
            format!("--name={}", member.name),
            format!("--data-dir={}", directory.join(&member.name).display()),
            format!("--listen-peer-urls={}", url(member.peer_port)),
            format!("--initial-advertise-peer-urls={}", url(member.peer_port)),
            format!("--listen-client-urls={}", url(member.client_port)),
            format!("--advertise-client-urls={}", url(member.client_port)),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--initial-cluster-token={}", self.token),
            "--log-format=console".to_owned(),
        ]
    }

    /// Where clients find the members, with commas.
    pub(super) fn endpoints(&self) -> String {
        let endpoints: Vec<String> =
            self.members.iter().map(|m| format!("127.0.0.1:{}", m.client_port)).collect();
        endpoints.join(",")
    }

    /// A line for each member that does not listen where etcd's clients look for it.
    pub(super) fn moved_ports(&self) -> Vec<String> {
        let wanted = (FIRST_PORT..).step_by(2);
        let moved = wanted.zip(&self.members).filter(|(port, member)| *port != member.client_port);
        moved
            .map(|(port, DevMember { name, client_port, .. })| {
                format!(
                    "{port} was in use when the cluster was made: {name} listens on {client_port}"
                )
            })
            .collect()
    }

    /// What the user reads once the cluster is up; `recorded` where clients find it untold.
    pub(super) fn welcome(&self, directory: &Path, recorded: bool) -> String {
        let mut program = std::env::args().next().unwrap_or_else(|| "quorate".to_owned());
        if !recorded {
            program.push_str(&format!(" --endpoints={}", self.endpoints()));
        }
        let mut text = String::from("\nThe cluster is up:\n\n");
        for member in &self.members {
            let log = directory.join(log_name(&member.name));
            let (name, port) = (&member.name, member.client_port);
            text.push_str(&format!("  {name}  http://127.0.0.1:{port}  log {}\n", log.display()));
        }
        text.push_str(&format!(
            "\nTry, in another terminal:\n\n  \
             {program} put greeting hello\n  \
             {program} get greeting\n  \
             {program} status\n  \
             ETCDCTL_ENDPOINTS={} etcdctl get greeting\n\n\
             Ctrl-C stops it. The data stays in {}\n\n",
            self.endpoints(),
            directory.display(),
        ));
        text
    }
}

/// The file that a member's log lines go to.
pub(super) fn log_name(member: &str) -> String {
    format!("{member}.log")
}

/// Refuses a directory with anything in it that is not a development cluster's.
pub(super) fn refuse_foreign(directory: &Path) -> Result<(), DevError> {
    let ours = [LAYOUT_FILE, LOCK_FILE];
    let mut entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(directory, error)),
    };
    if entries.next().is_none() || ours.iter().any(|name| directory.join(name).exists()) {
        return Ok(());
    }
    Err(DevError::Foreign(directory.to_owned()))
}

/// Removes a cluster: only what a layout can name, so that nothing else is lost. The layout goes
/// first, so that a removal which is interrupted never leaves a member without the votes it gave.
pub(super) fn clear(directory: &Path) -> Result<(), DevError> {
    let remove = |path: &Path, removed: std::io::Result<()>| match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(path, error)),
        _ => Ok(()),
    };
    let layout = directory.join(LAYOUT_FILE);
    remove(&layout, fs::remove_file(&layout))?;
    for number in 1..=MEMBERS_MAX {
        let name = format!("m{number}");
        let data = directory.join(&name);
        remove(&data, fs::remove_dir_all(&data))?;
        for log in [log_name(&name), format!("{}.1", log_name(&name))] {
            let log = directory.join(log);
            remove(&log, fs::remove_file(&log))?;
        }
    }
    Ok(())
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_chosen_once_and_remembered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let chosen = Layout::load_or_create(path, Some(2)).expect("chosen");
        let mut ports: Vec<u16> =
            chosen.members.iter().flat_map(|m| [m.client_port, m.peer_port]).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4);
        assert_eq!(Layout::load_or_create(path, None).expect("remembered"), chosen);
        let error = Layout::load_or_create(path, Some(3)).expect_err("another size");
        assert!(
            error
                .to_string()
                .ends_with("has 2 members: leave --members out, or begin anew with --fresh")
        );
        let taken = listen(chosen.members[1].client_port).expect("free");
        let error = Layout::load_or_create(path, None).expect_err("taken");
        assert!(error.to_string().contains("of member m2 is in use"));
        drop(taken);
        clear(path).expect("removed");
        assert_ne!(Layout::load_or_create(path, None).expect("chosen").token, chosen.token);
    }

    #[test]
    fn a_default_port_that_was_taken_is_named() {
        let member = |name: &str, client_port| DevMember {
            name: name.to_owned(),
            client_port,
            peer_port: client_port + 1,
        };
        let members = vec![member("m1", 32831), member("m2", FIRST_PORT + 2)];
        let layout = Layout { format: FORMAT, token: "t".to_owned(), members };
        let expected = "2379 was in use when the cluster was made: m1 listens on 32831";
        assert_eq!(layout.moved_ports(), [expected]);
    }

    #[test]
    fn damage_and_later_formats_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::write(path.join(LAYOUT_FILE), "{").expect("written");
        let error = Layout::load_or_create(path, None).expect_err("damaged");
        assert!(error.to_string().contains("cluster.json is damaged"));
        let later = r#"{"format": 2, "token": "t", "members": []}"#;
        fs::write(path.join(LAYOUT_FILE), later).expect("written");
        let error = Layout::load_or_create(path, None).expect_err("newer");
        assert!(
            error.to_string().contains("later version of quorate (format 2, this one knows 1)")
        );
    }

    #[test]
    fn only_what_belongs_to_the_cluster_is_ever_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        refuse_foreign(path).expect("empty");
        refuse_foreign(&path.join("missing")).expect("not there");
        fs::write(path.join("thesis.txt"), "years of work").expect("written");
        assert!(matches!(refuse_foreign(path), Err(DevError::Foreign(_))));
        fs::write(path.join(LAYOUT_FILE), "{}").expect("written");
        fs::create_dir(path.join("m1")).expect("made");
        refuse_foreign(path).expect("a cluster's");
        clear(path).expect("removed");
        assert!(path.join("thesis.txt").exists());
        assert!(!path.join("m1").exists());
    }
}
