package client_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// A cluster of three whose members can be killed.
type cluster struct {
	commands []*exec.Cmd
	clients  []string
	start    func(member int) *exec.Cmd
}

// killable starts three members with the program that MEMBER names, and words of its own.
func killable(t *testing.T) *cluster {
	t.Helper()
	program := strings.Fields(os.Getenv("MEMBER"))
	if len(program) == 0 {
		t.Skip("SKIPPED: MEMBER names no program that starts a member")
	}
	directory := t.TempDir()
	var clients, peers, initial []string
	for member := range 3 {
		clients = append(clients, free(t))
		peers = append(peers, free(t))
		initial = append(initial, fmt.Sprintf("m%d=%s", member, peers[member]))
	}
	start := func(member int) *exec.Cmd {
		name := fmt.Sprintf("m%d", member)
		words := append([]string{}, program[1:]...)
		words = append(words, "--name", name, "--data-dir", filepath.Join(directory, name),
			"--listen-client-urls", clients[member], "--advertise-client-urls", clients[member],
			"--listen-peer-urls", peers[member], "--initial-advertise-peer-urls", peers[member],
			"--initial-cluster", strings.Join(initial, ","))
		command := exec.Command(program[0], words...)
		if err := command.Start(); err != nil {
			t.Fatalf("start %v: %v", command, err)
		}
		return command
	}
	all := &cluster{clients: clients, start: start}
	for member := range 3 {
		all.commands = append(all.commands, start(member))
	}
	t.Cleanup(func() {
		for member := range 3 {
			all.kill(member)
		}
	})
	return all
}

func (c *cluster) kill(member int) {
	_ = c.commands[member].Process.Kill()
	_ = c.commands[member].Wait()
}

// restart returns once the member serves.
func (c *cluster) restart(t *testing.T, member int) {
	t.Helper()
	c.commands[member] = c.start(member)
	client := connect(t, c.clients[member])
	get(t, client, "whatever")
	_ = client.Close()
}

func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// follow hands on all events of a watch, and fails when it ends before the test.
func follow(t *testing.T, ctx context.Context, watch clientv3.WatchChan) chan *clientv3.Event {
	events := make(chan *clientv3.Event, 1<<20)
	go func() {
		for answer := range watch {
			if err := answer.Err(); err != nil && ctx.Err() == nil {
				t.Errorf("the watch ended: %v", err)
			}
			for _, event := range answer.Events {
				events <- event
			}
		}
	}()
	return events
}

// write puts one number after the other, and the revision of each that was acknowledged, until it is
// told to stop. Whether one that failed was done is not known: its number is not used again.
func write(ctx context.Context, client *clientv3.Client, key string, acknowledged *atomic.Int64) map[int64]string {
	done := map[int64]string{}
	for number := 0; ctx.Err() == nil; number++ {
		value := fmt.Sprint(number)
		limited, cancel := context.WithTimeout(context.Background(), patience)
		answer, err := client.Put(limited, key, value)
		cancel()
		if err == nil {
			done[answer.Header.Revision] = value
			acknowledged.Add(1)
		}
	}
	return done
}

// One client with three endpoints, and each of the members killed once, in the middle of puts, a watch,
// a lease that is kept alive, and a lock: all of it goes on.
func TestFailover(t *testing.T) {
	members := killable(t)
	client := connect(t, members.clients...)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	const prefix, key, leased = "failover/", "failover/number", "failover/leased"
	const leaseSeconds = 6

	first := put(t, client, key, "first")
	events := follow(t, ctx, client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first)))

	lease, err := client.Grant(within(t), leaseSeconds)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	put(t, client, leased, "", clientv3.WithLease(lease.ID))
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		t.Fatalf("keep alive: %v", err)
	}
	var renewed atomic.Int64
	go func() {
		for range renewals {
			renewed.Add(1)
		}
		if ctx.Err() == nil {
			t.Error("the client gave the lease up")
		}
	}()

	holder, waiter := session(t, client), session(t, client)
	held, waiting := concurrency.NewMutex(holder, "failover-lock"), concurrency.NewMutex(waiter, "failover-lock")
	if err := held.Lock(within(t)); err != nil {
		t.Fatalf("lock: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- waiting.Lock(ctx) }()

	writing, finish := context.WithCancel(context.Background())
	var acknowledged atomic.Int64
	written := make(chan map[int64]string, 1)
	go func() { written <- write(writing, client, key, &acknowledged) }()

	for member := range 3 {
		enough := acknowledged.Load() + 100
		eventually(t, "puts before the kill", func() bool { return acknowledged.Load() > enough })
		members.kill(member)
		enough, renewals := acknowledged.Load()+100, renewed.Load()
		eventually(t, "puts after the kill", func() bool { return acknowledged.Load() > enough })
		// Three to a lifetime: had they no effect, the lease would end meanwhile.
		eventually(t, "renewals after the kill", func() bool { return renewed.Load() > renewals+4 })
		members.restart(t, member)
		select {
		case err := <-got:
			t.Fatalf("the lock was given to two: %v", err)
		case <-holder.Done():
			t.Fatal("the lock was lost")
		case <-waiter.Done():
			t.Fatal("the place in the queue was lost")
		default:
		}
	}
	finish()
	done := <-written
	t.Logf("%d puts acknowledged, %d renewals", len(done), renewed.Load())

	same(t, "keys of the lease", len(get(t, client, leased).Kvs), 1)
	if err := held.Unlock(within(t)); err != nil {
		t.Fatalf("unlock: %v", err)
	}
	select {
	case err := <-got:
		if err != nil {
			t.Fatalf("the lock's next holder: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("nobody got the lock")
	}

	last := put(t, client, key, "last")
	compare(t, client, events, prefix, first, last, done)
}

// compare holds what the watcher was told against what was acknowledged, and against what history
// says by now.
func compare(
	t *testing.T, client *clientv3.Client, events chan *clientv3.Event,
	prefix string, first, last int64, acknowledged map[int64]string,
) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	history := follow(t, ctx, client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first)))
	deadline := time.After(patience)
	for revision := int64(0); revision < last; {
		var told, happened *clientv3.Event
		for told == nil || happened == nil {
			from, to := events, &told
			if told != nil {
				from, to = history, &happened
			}
			select {
			case *to = <-from:
			case <-deadline:
				t.Fatalf("nothing was told after revision %d", revision)
			}
		}
		same(t, "event", told.Kv.String(), happened.Kv.String())
		if told.Kv.ModRevision <= revision {
			t.Fatalf("revision %d was told after %d", told.Kv.ModRevision, revision)
		}
		revision = told.Kv.ModRevision
		if value, ok := acknowledged[revision]; ok {
			same(t, "acknowledged value", string(told.Kv.Value), value)
			delete(acknowledged, revision)
		}
	}
	same(t, "acknowledged puts that nobody was told of", len(acknowledged), 0)
}
