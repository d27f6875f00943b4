package client_test

import (
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// long is a time to live, in seconds, that no test waits for.
const long = 3600

func grant(t *testing.T, client *clientv3.Client, ttl int64) clientv3.LeaseID {
	t.Helper()
	answer, err := client.Grant(within(t), ttl)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	return answer.ID
}

func TestLeaseKeepsKeys(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	answer, err := client.Grant(within(t), long)
	same(t, "grant", err, nil)
	same(t, "granted", answer.TTL, long)
	lease := answer.ID
	put(t, client, prefix+"b", "1", clientv3.WithLease(lease))
	put(t, client, prefix+"a", "1", clientv3.WithLease(lease))
	put(t, client, prefix+"c", "1")
	same(t, "attached", get(t, client, prefix+"a").Kvs[0].Lease, int64(lease))

	left, err := client.TimeToLive(within(t), lease, clientv3.WithAttachedKeys())
	same(t, "time to live", err, nil)
	same(t, "granted", left.GrantedTTL, long)
	same(t, "left", left.TTL > long-60 && left.TTL <= long, true)
	var keys []string
	for _, key := range left.Keys {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	same(t, "keys", slices.Equal(keys, []string{prefix + "a", prefix + "b"}), true)
	without, err := client.TimeToLive(within(t), lease)
	same(t, "time to live", err, nil)
	same(t, "keys only where asked for", len(without.Keys), 0)

	// What is put anew without the lease is let go, and what is put with it kept.
	put(t, client, prefix+"a", "2")
	same(t, "detached", get(t, client, prefix+"a").Kvs[0].Lease, 0)
	put(t, client, prefix+"b", "2", clientv3.WithIgnoreLease())
	same(t, "kept", get(t, client, prefix+"b").Kvs[0].Lease, int64(lease))
	before := put(t, client, prefix+"d", "1", clientv3.WithLease(lease))
	revoked, err := client.Revoke(within(t), lease)
	same(t, "revoke", err, nil)
	same(t, "one revision for all", revoked.Header.Revision, before+1)
	same(t, "left", values(prefix, get(t, client, prefix, clientv3.WithPrefix())), "a=2 c=1")

	// A lease without keys leaves no revision behind.
	empty := grant(t, client, long)
	revision := get(t, client, prefix+"a").Header.Revision
	revoked, err = client.Revoke(within(t), empty)
	same(t, "revoke", err, nil)
	same(t, "no revision", revoked.Header.Revision, revision)
}

func TestLeaseErrors(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	ctx := within(t)
	lease := grant(t, client, long)
	_, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: long, ID: int64(lease)})
	refused(t, "grant again", err, rpctypes.ErrGRPCLeaseExist)
	_, err = client.Grant(ctx, 9000000001)
	refused(t, "too long", err, rpctypes.ErrGRPCLeaseTTLTooLarge)
	_, err = client.Revoke(ctx, 4242)
	refused(t, "revoke nothing", err, rpctypes.ErrGRPCLeaseNotFound)
	_, err = client.KeepAliveOnce(ctx, 4242)
	refused(t, "keep nothing alive", err, rpctypes.ErrLeaseNotFound)
	none, err := client.TimeToLive(ctx, 4242)
	same(t, "time to live of nothing", err, nil)
	same(t, "time to live of nothing", none.TTL, -1)
	_, err = client.Txn(ctx).Then(clientv3.OpPut(prefix+"a", "1"), clientv3.OpPut(prefix+"b", "1", clientv3.WithLease(4242))).Commit()
	refused(t, "unknown lease in a txn", err, rpctypes.ErrGRPCLeaseNotFound)
	same(t, "nothing of it", len(get(t, client, prefix, clientv3.WithPrefix()).Kvs), 0)
	_, err = client.Put(ctx, prefix+"a", "1", clientv3.WithLease(lease))
	same(t, "put", err, nil)
	_, err = client.Put(ctx, prefix+"a", "2", clientv3.WithIgnoreLease(), clientv3.WithLease(lease))
	refused(t, "lease beside ignore lease", err, rpctypes.ErrGRPCLeaseProvided)
	held, err := client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(prefix+"a"), "=", lease)).Then(clientv3.OpGet(prefix + "a")).Commit()
	same(t, "compare", err, nil)
	same(t, "compare", held.Succeeded, true)
}

func TestLeaseList(t *testing.T) {
	lease := grant(t, connect(t), long)
	for _, member := range endpoints(t) {
		answer, err := connect(t, member).Leases(within(t))
		same(t, "list", err, nil)
		same(t, member, slices.ContainsFunc(answer.Leases, func(status clientv3.LeaseStatus) bool {
			return status.ID == lease
		}), true)
	}
}

func TestLeaseExpires(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	began := time.Now()
	lease := grant(t, client, 2)
	put(t, client, prefix+"a", "1", clientv3.WithLease(lease))
	eventually(t, "the key to go", func() bool { return len(get(t, client, prefix+"a").Kvs) == 0 })
	same(t, "never early", time.Since(began) >= 2*time.Second, true)
	left, err := client.TimeToLive(within(t), lease)
	same(t, "time to live", err, nil)
	same(t, "gone", left.TTL, -1)
}

// Every member takes keep-alives, the leader or not.
func TestLeaseIsKeptAlive(t *testing.T) {
	for _, member := range endpoints(t) {
		client, prefix := connect(t, member), fresh(t)
		lease := grant(t, client, 2)
		put(t, client, prefix+"a", "1", clientv3.WithLease(lease))
		answers, err := client.KeepAlive(within(t), lease)
		same(t, "keep alive", err, nil)
		for began := time.Now(); time.Since(began) < 4*time.Second; {
			answer, open := <-answers
			if !open || answer.TTL != 2 {
				t.Fatalf("%s: kept alive with %v", member, answer)
			}
		}
		same(t, member, len(get(t, client, prefix+"a").Kvs), 1)
		once, err := client.KeepAliveOnce(within(t), lease)
		same(t, "once", err, nil)
		same(t, "once", once.TTL, 2)
		_, err = client.Revoke(within(t), lease)
		same(t, "revoke", err, nil)
		_, err = client.KeepAliveOnce(within(t), lease)
		refused(t, "keep alive what is gone", err, rpctypes.ErrLeaseNotFound)
	}
}
