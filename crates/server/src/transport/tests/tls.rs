//! What goes over TLS between members goes as it does without.

use super::*;
use crate::config::{Flags, ServerConfig};
use crate::tls::with_own_certificate;

/// What is told goes over TLS like everything else, on a connection that ends right after it.
#[tokio::test]
async fn over_tls_one_that_lags_is_told_and_let_in_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ahead, ahead_port) = listener().await;
    let (behind, behind_port) = listener().await;
    let url = |port| format!("https://127.0.0.1:{port}");
    let arguments = [
        "--peer-auto-tls".to_owned(),
        format!("--listen-peer-urls={}", url(ahead_port)),
        format!("--initial-advertise-peer-urls={}", url(ahead_port)),
        format!("--initial-cluster=default={}", url(ahead_port)),
    ];
    let flags = Flags::parse(arguments, []).expect("good flags");
    let config = ServerConfig::from_flags(&flags).expect("a good configuration");
    let options =
        with_own_certificate(&config.peer_tls, directory.path(), &config.listen_peer_urls)
            .expect("a certificate is made");
    let server = TlsServer::open(&options).expect("it is there");
    let client = TlsClient::open(&options).expect("it is there");
    let links = Links { tls: Some(client), ..Links::default() };
    let secured = |listener| PeerListener { listener, tls: Some(server.clone()) };

    let old = Configuration { version: 3, ..members_at(PEER, &[]) };
    let mut now = Configuration { version: 7, ..Configuration::of_voters([US, PEER]) };
    for (id, port) in [(US, ahead_port), (PEER, behind_port)] {
        let peer_urls = vec![Url::parse(&url(port)).expect("a URL")];
        let context = Description { peer_urls, ..Description::default() }.encode();
        now.members.insert(id, Member { context, ..Member::default() });
    }
    let (lagging, mut at_lagging) = member_linked(secured(behind), &links, PEER, &old);
    let (leading, _at_leading) = member_linked(secured(ahead), &links, US, &now);
    leading.committed(7);
    let Arrived::Told(told) = next(&mut at_lagging).await else { panic!("it is not told") };
    assert_eq!((told.version, told.members.contains_key(&US)), (7, true));
    lagging.told(told);
    while leading.connected() != [PEER] || lagging.connected() != [US] {
        tokio::task::yield_now().await;
    }
}
