// The Node client `etcd3`, put to a running cluster. ENDPOINTS names its members, separated by commas.
// It passes against a real etcd of the same version too.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EtcdLeaseInvalidError, Etcd3 } from 'etcd3';

const endpoints = (process.env.ENDPOINTS ?? '').split(',').filter((endpoint) => endpoint !== '');
// Longer than anything here takes; only a test that fails waits for it.
const patience = 20_000;

let client;
let used = 0;

const fresh = () => `node/${process.pid}/${++used}/`;

before(() => {
  assert.notEqual(endpoints.length, 0, 'ENDPOINTS names no cluster');
  client = new Etcd3({ hosts: endpoints });
});

after(() => client.close());

async function eventually(what, holds) {
  const deadline = Date.now() + patience;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('put, get and delete', async () => {
  const prefix = fresh();
  await client.put(`${prefix}a`).value('1');
  await client.put(`${prefix}b`).value('2');
  assert.equal(await client.get(`${prefix}a`).string(), '1');
  assert.equal(await client.get(`${prefix}none`).string(), null);
  assert.deepEqual(await client.getAll().prefix(prefix).strings(), {
    [`${prefix}a`]: '1',
    [`${prefix}b`]: '2',
  });
  const sorted = await client.getAll().prefix(prefix).sort('Key', 'Descend').limit(1).keys();
  assert.deepEqual(sorted, [`${prefix}b`]);
  assert.equal(await client.getAll().prefix(prefix).count(), 2);
  const deleted = await client.delete().all().prefix(prefix);
  assert.equal(deleted.deleted, '2');
  assert.equal(await client.getAll().prefix(prefix).count(), 0);
});

test('transactions', async () => {
  const key = `${fresh()}a`;
  const create = () =>
    client.if(key, 'Create', '==', 0).then(client.put(key).value('1')).else(client.get(key)).commit();
  assert.equal((await create()).succeeded, true);
  const again = await create();
  assert.equal(again.succeeded, false);
  assert.equal(again.responses[0].response_range.kvs[0].value.toString(), '1');
  const other = await client.if(key, 'Value', '==', '1').then(client.delete().key(key)).commit();
  assert.equal(other.succeeded, true);
  assert.equal(await client.get(key).string(), null);
});

test('watches', async () => {
  const prefix = fresh();
  const watcher = await client.watch().prefix(prefix).create();
  const told = [];
  watcher.on('put', (kv) => told.push(`put ${kv.key} ${kv.value}`));
  watcher.on('delete', (kv) => told.push(`delete ${kv.key}`));
  await client.put(`${prefix}a`).value('1');
  await client.delete().key(`${prefix}a`);
  await client.put(`${prefix}b`).value('2');
  await eventually('three events', () => told.length === 3);
  assert.deepEqual(told, [`put ${prefix}a 1`, `delete ${prefix}a`, `put ${prefix}b 2`]);
  await watcher.cancel();
});

test('leases', async () => {
  const key = `${fresh()}a`;
  const lease = client.lease(10);
  await lease.put(key).value('1');
  await lease.keepaliveOnce();
  assert.equal(await client.get(key).string(), '1');
  await lease.revoke();
  assert.equal(await client.get(key).string(), null);
  const gone = client.lease(10);
  const id = await gone.grant();
  await client.leaseClient.leaseRevoke({ ID: id });
  await assert.rejects(gone.keepaliveOnce(), EtcdLeaseInvalidError);
});

test('locks and elections', async () => {
  const name = fresh();
  const first = client.lock(name);
  await first.acquire();
  await assert.rejects(client.lock(name).acquire());
  await first.release();
  await client.lock(name).do(async () => {});

  const election = client.election(`${name}election`);
  const campaign = election.campaign('me');
  await eventually('the leader', async () => (await election.leader()) === 'me');
  await campaign.resign();
  assert.equal(await election.leader(), undefined);
});

test('members', async () => {
  const { members } = await client.cluster.memberList({});
  assert.equal(members.length, endpoints.length);
  const status = await client.maintenance.status();
  assert.equal(status.version, '3.7.1');
});
