//! Words, calls and paths that do not belong in the repository, each with what to do instead.

use super::{Finding, Source};

/// A piece of text that must not stand in files of some kind.
struct Ban {
    text: &'static str,
    applies: fn(&str) -> bool,
    instead: &'static str,
}

/// Pieces are written apart here, so that this file does not find itself.
const BANS: &[Ban] = &[
    Ban {
        text: concat!("/wo", "rk/"),
        applies: anywhere,
        instead: "a path of somebody's machine: make it relative",
    },
    Ban {
        text: concat!("/ro", "ot/"),
        applies: anywhere,
        instead: "a path of somebody's machine: make it relative",
    },
    Ban {
        text: concat!("/ho", "me/"),
        applies: anywhere,
        instead: "a path of somebody's machine: make it relative",
    },
    Ban {
        text: concat!("Co-authored", "-by"),
        applies: anywhere,
        instead: "the history says what changed and why, not who typed it",
    },
    Ban {
        text: concat!("static.crates", ".io"),
        applies: anywhere,
        instead: "the host of a registry is the user's choice",
    },
    Ban {
        text: concat!("proxy.golang", ".org"),
        applies: anywhere,
        instead: "the host of a registry is the user's choice",
    },
    Ban {
        text: concat!("registry.npmjs", ".org"),
        applies: anywhere,
        instead: "the host of a registry is the user's choice",
    },
    Ban { text: concat!("FIX", "ME"), applies: rust, instead: "mend it, or write an issue" },
    Ban { text: concat!("TO", "DO"), applies: rust, instead: "do it, or write an issue" },
    Ban {
        text: concat!("Box<dyn ", "Error"),
        applies: library,
        instead: "an error enum of the crate",
    },
    Ban {
        text: concat!("Box<dyn std::error::", "Error"),
        applies: library,
        instead: "an error enum of the crate",
    },
    Ban {
        text: concat!("thread::", "sleep"),
        applies: tests_and_pure_crates,
        instead: "wait for the thing itself; a sleep only hopes for it",
    },
    Ban {
        text: concat!("time::", "sleep("),
        applies: tests_and_pure_crates,
        instead: "wait for the thing itself; a sleep only hopes for it",
    },
    Ban {
        text: concat!("print", "ln!("),
        applies: pure_production,
        instead: "tell the host; it decides what is printed",
    },
];

fn anywhere(path: &str) -> bool {
    path != "Cargo.lock"
}

fn rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn library(path: &str) -> bool {
    rust(path) && path.starts_with("crates/") && path.contains("/src/")
}

fn pure_crates(path: &str) -> bool {
    const PURE: [&str; 6] = ["raft", "disk", "wal", "kv", "store", "replica"];
    let name = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
    rust(path) && name.is_some_and(|name| PURE.contains(&name))
}

fn pure_production(path: &str) -> bool {
    pure_crates(path) && path.contains("/src/")
}

fn tests_and_pure_crates(path: &str) -> bool {
    pure_crates(path) || (rust(path) && path.contains("/tests/"))
}

pub(crate) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources {
        let bans: Vec<&Ban> = BANS.iter().filter(|ban| (ban.applies)(&source.path)).collect();
        for (number, line) in source.text.lines().enumerate() {
            for ban in &bans {
                if stands_in(line, ban.text) {
                    findings.push(Finding {
                        place: format!("{}:{}", source.path, number + 1),
                        what: format!("`{}`: {}", ban.text, ban.instead),
                    });
                }
            }
        }
    }
}

/// A path counts only where it begins a path, not as part of a longer one.
fn stands_in(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let inside = before.is_some_and(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        !(text.starts_with('/') && inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_text_is_found_where_it_is_banned() {
        let source = |path: &str| Source {
            path: path.into(),
            text: concat!("fn f() { std::thread::", "sleep(d) }").into(),
        };
        let mut findings = Vec::new();
        let sources =
            ["crates/raft/src/a.rs", "crates/server/tests/a.rs", "crates/server/src/a.rs"];
        check(&sources.map(source), &mut findings);
        let places: Vec<_> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["crates/raft/src/a.rs:1", "crates/server/tests/a.rs:1"]);
    }

    #[test]
    fn a_path_inside_a_path_is_none() {
        assert!(stands_in(concat!("see /wo", "rk/x"), concat!("/wo", "rk/")));
        assert!(!stands_in(concat!("a.b/wo", "rk/x"), concat!("/wo", "rk/")));
    }
}
