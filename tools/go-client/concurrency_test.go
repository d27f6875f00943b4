package client_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"go.etcd.io/etcd/client/v3/concurrency"
	electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func session(t *testing.T, client *clientv3.Client) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// Sessions at all members take turns at a counter that only a lock protects.
func TestMutex(t *testing.T) {
	const turns = 5
	prefix := fresh(t)
	setup := connect(t)
	put(t, setup, prefix+"counter", "0")
	var done sync.WaitGroup
	for _, member := range endpoints(t) {
		client := connect(t, member)
		mutex := concurrency.NewMutex(session(t, client), prefix+"lock")
		done.Go(func() {
			for range turns {
				if err := mutex.Lock(within(t)); err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				count, _ := strconv.Atoi(string(get(t, client, prefix+"counter").Kvs[0].Value))
				put(t, client, prefix+"counter", strconv.Itoa(count+1))
				if err := mutex.Unlock(within(t)); err != nil {
					t.Errorf("unlock: %v", err)
				}
			}
		})
	}
	done.Wait()
	want := strconv.Itoa(turns * len(endpoints(t)))
	same(t, "all turns", string(get(t, setup, prefix+"counter").Kvs[0].Value), want)
}

func TestTryLock(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := concurrency.NewMutex(session(t, client), prefix)
	second := concurrency.NewMutex(session(t, client), prefix)
	same(t, "lock", first.Lock(within(t)), nil)
	same(t, "taken", errors.Is(second.TryLock(within(t)), concurrency.ErrLocked), true)
	same(t, "unlock", first.Unlock(within(t)), nil)
	same(t, "free", second.TryLock(within(t)), nil)
}

func TestElection(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := concurrency.NewElection(session(t, client), prefix)
	second := concurrency.NewElection(session(t, client), prefix)
	_, err := first.Leader(within(t))
	same(t, "nobody yet", errors.Is(err, concurrency.ErrElectionNoLeader), true)
	same(t, "campaign", first.Campaign(within(t), "first"), nil)
	observing, stop := context.WithCancel(within(t))
	defer stop()
	observed := second.Observe(observing)
	same(t, "observed", string((<-observed).Kvs[0].Value), "first")
	same(t, "proclaim", first.Proclaim(within(t), "first again"), nil)
	same(t, "observed", string((<-observed).Kvs[0].Value), "first again")
	elected := make(chan error)
	go func() { elected <- second.Campaign(within(t), "second") }()
	same(t, "resign", first.Resign(within(t)), nil)
	same(t, "elected", <-elected, nil)
	leader, err := first.Leader(within(t))
	same(t, "leader", err, nil)
	same(t, "leader", string(leader.Kvs[0].Value), "second")
}

func TestTransactionalMemory(t *testing.T) {
	prefix := fresh(t)
	put(t, connect(t), prefix+"from", "100")
	put(t, connect(t), prefix+"to", "0")
	var done sync.WaitGroup
	for _, member := range endpoints(t) {
		client := connect(t, member)
		done.Go(func() {
			for range 5 {
				_, err := concurrency.NewSTM(client, func(memory concurrency.STM) error {
					from, _ := strconv.Atoi(memory.Get(prefix + "from"))
					to, _ := strconv.Atoi(memory.Get(prefix + "to"))
					memory.Put(prefix+"from", strconv.Itoa(from-1))
					memory.Put(prefix+"to", strconv.Itoa(to+1))
					return nil
				})
				if err != nil {
					t.Errorf("transaction: %v", err)
				}
			}
		})
	}
	done.Wait()
	moved := strconv.Itoa(5 * len(endpoints(t)))
	same(t, "moved", string(get(t, connect(t), prefix+"to").Kvs[0].Value), moved)
}

// The services do in the member what the client does by itself above.
func TestLockService(t *testing.T) {
	client, prefix := connect(t, endpoints(t)[0]), fresh(t)
	other := connect(t, endpoints(t)[1])
	lock, otherLock := lockpb.NewLockClient(client.ActiveConnection()), lockpb.NewLockClient(other.ActiveConnection())
	lease, otherLease := grant(t, client, long), grant(t, client, long)
	first, err := lock.Lock(within(t), &lockpb.LockRequest{Name: []byte(prefix), Lease: int64(lease)})
	same(t, "lock", err, nil)
	same(t, "its key", string(first.Key), prefix+"/"+strconv.FormatInt(int64(lease), 16))
	same(t, "is there", get(t, client, string(first.Key)).Count, 1)
	again, err := lock.Lock(within(t), &lockpb.LockRequest{Name: []byte(prefix), Lease: int64(lease)})
	same(t, "lock again", err, nil)
	same(t, "the same key", string(again.Key), string(first.Key))

	locked := make(chan *lockpb.LockResponse)
	go func() {
		second, err := otherLock.Lock(within(t), &lockpb.LockRequest{Name: []byte(prefix), Lease: int64(otherLease)})
		if err != nil {
			t.Errorf("lock: %v", err)
		}
		locked <- second
	}()
	eventually(t, "the other to wait", func() bool {
		return get(t, client, prefix+"/", clientv3.WithPrefix()).Count == 2
	})
	_, err = lock.Unlock(within(t), &lockpb.UnlockRequest{Key: first.Key})
	same(t, "unlock", err, nil)
	second := <-locked
	same(t, "the other's", string(second.Key), prefix+"/"+strconv.FormatInt(int64(otherLease), 16))

	// A lock goes with its lease, and one that waits for it gets it.
	waiting := make(chan error)
	go func() {
		_, err := lock.Lock(within(t), &lockpb.LockRequest{Name: []byte(prefix), Lease: int64(lease)})
		waiting <- err
	}()
	eventually(t, "the first to wait", func() bool {
		return get(t, client, prefix+"/", clientv3.WithPrefix()).Count == 2
	})
	_, err = client.Revoke(within(t), otherLease)
	same(t, "revoke", err, nil)
	same(t, "locked", <-waiting, nil)
	_, err = lock.Lock(within(t), &lockpb.LockRequest{Name: []byte(prefix), Lease: 4242})
	same(t, "without a lease", status.Code(err), codes.Unknown)
	same(t, "in these words", status.Convert(err).Message(), "etcdserver: requested lease not found")
}

func TestElectionService(t *testing.T) {
	client, name := connect(t, endpoints(t)[0]), []byte(fresh(t))
	other := connect(t, endpoints(t)[1])
	election, otherElection := electionpb.NewElectionClient(client.ActiveConnection()), electionpb.NewElectionClient(other.ActiveConnection())
	lease, otherLease := grant(t, client, long), grant(t, client, long)

	said := func(what string, err error, text string) {
		t.Helper()
		same(t, what, status.Code(err), codes.Unknown)
		same(t, what, status.Convert(err).Message(), text)
	}
	_, err := election.Leader(within(t), &electionpb.LeaderRequest{Name: name})
	said("nobody yet", err, "election: no leader")
	_, err = election.Proclaim(within(t), &electionpb.ProclaimRequest{})
	said("no leader named", err, "\"leader\" field must be provided")
	_, err = election.Resign(within(t), &electionpb.ResignRequest{})
	said("no leader named", err, "\"leader\" field must be provided")

	first, err := election.Campaign(within(t), &electionpb.CampaignRequest{Name: name, Lease: int64(lease), Value: []byte("first")})
	same(t, "campaign", err, nil)
	same(t, "name", string(first.Leader.Name), string(name))
	same(t, "key", string(first.Leader.Key), string(name)+"/"+strconv.FormatInt(int64(lease), 16))
	same(t, "revision", first.Leader.Rev, get(t, client, string(first.Leader.Key)).Kvs[0].CreateRevision)
	leader, err := otherElection.Leader(within(t), &electionpb.LeaderRequest{Name: name})
	same(t, "leader", err, nil)
	same(t, "value", string(leader.Kv.Value), "first")

	observed, err := otherElection.Observe(within(t), &electionpb.LeaderRequest{Name: name})
	same(t, "observe", err, nil)
	seen := func() string {
		t.Helper()
		answer, err := observed.Recv()
		same(t, "observe", err, nil)
		return string(answer.Kv.Value)
	}
	same(t, "observed", seen(), "first")
	_, err = election.Proclaim(within(t), &electionpb.ProclaimRequest{Leader: first.Leader, Value: []byte("again")})
	same(t, "proclaim", err, nil)
	same(t, "observed", seen(), "again")

	elected := make(chan *electionpb.CampaignResponse)
	go func() {
		second, err := otherElection.Campaign(within(t), &electionpb.CampaignRequest{Name: name, Lease: int64(otherLease), Value: []byte("second")})
		if err != nil {
			t.Errorf("campaign: %v", err)
		}
		elected <- second
	}()
	eventually(t, "the other to wait", func() bool {
		return get(t, client, string(name)+"/", clientv3.WithPrefix()).Count == 2
	})
	_, err = election.Resign(within(t), &electionpb.ResignRequest{Leader: first.Leader})
	same(t, "resign", err, nil)
	second := <-elected
	same(t, "observed", seen(), "second")
	_, err = election.Proclaim(within(t), &electionpb.ProclaimRequest{Leader: first.Leader, Value: []byte("too late")})
	said("no leader any more", err, "election: not leader")
	_, err = otherElection.Resign(within(t), &electionpb.ResignRequest{Leader: second.Leader})
	same(t, "resign", err, nil)
}
