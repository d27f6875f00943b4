//! Whether all members hold the same, and all that was acknowledged, each asked for its own state.

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::RangeRequest;
use crate::cluster::proto::mvccpb::KeyValue;
use crate::content::Content;
use crate::ledger::Ledger;

/// Numbers whose keys are read at once.
const PAGE: u64 = 5000;

/// Reads everything from every member, page by page, at one revision. The content must be numbered
/// keys, and nothing else may be in the store. Answers how many keys there are and how many puts
/// were acknowledged.
pub(crate) async fn all_hold_the_same(
    cluster: &Cluster,
    content: &Content,
    ledger: &Ledger,
) -> Result<(u64, u64)> {
    for member in 0..cluster.count() {
        cluster.wait_until_caught_up(member).await;
    }
    let revision = counted(cluster, 0, 0).await?.1;
    let (mut keys, mut acknowledged) = (0, 0);
    for first in ledger.taken().step_by(PAGE as usize) {
        let numbers = first..ledger.taken().end.min(first + PAGE);
        let page = page(cluster, 0, content, numbers.clone(), revision).await?;
        for member in 1..cluster.count() {
            let other = self::page(cluster, member, content, numbers.clone(), revision).await?;
            ensure!(other == page, "m{member} and m0 differ among keys {numbers:?}");
        }
        let mut held = page.iter();
        for number in ledger.acknowledged(numbers.clone()) {
            // Both are in order; what is held beyond was put, though the answer was lost.
            let key = content.key(number);
            let found = held.find(|kv| kv.key[..] >= key[..]);
            let value = found.filter(|kv| kv.key[..] == key[..]).map(|kv| &kv.value[..]);
            ensure!(
                value == Some(&content.value(number)),
                "put {number} was acknowledged, and is lost"
            );
            acknowledged += 1;
        }
        keys += page.len() as u64;
    }
    for member in 0..cluster.count() {
        let count = counted(cluster, member, revision).await?.0;
        ensure!(count == keys, "m{member} counts {count} keys, and {keys} were read");
    }
    Ok((keys, acknowledged))
}

async fn page(
    cluster: &Cluster,
    member: usize,
    content: &Content,
    numbers: std::ops::Range<u64>,
    revision: i64,
) -> Result<Vec<KeyValue>> {
    let request = RangeRequest {
        key: content.key(numbers.start).into(),
        range_end: content.key(numbers.end).into(),
        revision,
        serializable: true,
        ..RangeRequest::default()
    };
    let answer = cluster.kv(member).range(request).await;
    let answer = answer.with_context(|| format!("m{member} must answer for {numbers:?}"))?;
    Ok(answer.into_inner().kvs)
}

/// The number of all keys, and the revision of the answer.
async fn counted(cluster: &Cluster, member: usize, revision: i64) -> Result<(u64, i64)> {
    let request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        serializable: true,
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = cluster.kv(member).range(request).await.context("a count")?.into_inner();
    let revision = answer.header.context("every answer has a header")?.revision;
    Ok((u64::try_from(answer.count)?, revision))
}
