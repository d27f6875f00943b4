package client_test

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestMembersAndStatus(t *testing.T) {
	client := connect(t)
	var list *clientv3.MemberListResponse
	var err error
	// Each tells the others where it is once it has a leader, and may serve a moment before.
	eventually(t, "the members' URLs", func() bool {
		list, err = client.MemberList(within(t))
		same(t, "list", err, nil)
		told := 0
		for _, member := range list.Members {
			told += min(len(member.ClientURLs), 1)
		}
		return told == len(endpoints(t))
	})
	same(t, "members", len(list.Members), len(endpoints(t)))
	ids := map[uint64]bool{}
	for _, member := range list.Members {
		ids[member.ID] = true
		same(t, "named", member.Name != "" && len(member.ClientURLs) > 0 && len(member.PeerURLs) > 0, true)
		same(t, "voter", member.IsLearner, false)
	}
	for _, endpoint := range endpoints(t) {
		status, err := client.Status(within(t), endpoint)
		same(t, "status", err, nil)
		same(t, "a member", ids[status.Header.MemberId], true)
		same(t, "a leader", ids[status.Leader], true)
		same(t, "version", status.Version, "3.7.1")
		same(t, "term", status.RaftTerm > 0 && status.RaftTerm == status.Header.RaftTerm, true)
		same(t, "size", status.DbSize >= status.DbSizeInUse && status.DbSizeInUse > 0, true)
		same(t, "errors", len(status.Errors), 0)
	}
	_, err = client.MemberRemove(within(t), 4242)
	refused(t, "remove nobody", err, rpctypes.ErrGRPCMemberNotFound)
	_, err = client.MemberPromote(within(t), list.Members[0].ID)
	refused(t, "promote a voter", err, rpctypes.ErrGRPCMemberNotLearner)
	_, err = client.MemberAdd(within(t), list.Members[0].PeerURLs)
	refused(t, "add again", err, rpctypes.ErrGRPCPeerURLExist)
}

func TestMaintenance(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	revision := put(t, client, prefix+"a", "1")
	alarms, err := client.AlarmList(within(t))
	same(t, "alarms", err, nil)
	same(t, "none", len(alarms.Alarms), 0)
	var hashes []uint32
	for _, endpoint := range endpoints(t) {
		// A member answers by what it has.
		eventually(t, "the member to have it", func() bool {
			hash, err := client.HashKV(within(t), endpoint, revision)
			if err == nil {
				same(t, "at", hash.HashRevision, revision)
				hashes = append(hashes, hash.Hash)
			}
			return err == nil
		})
		_, err = client.Defragment(within(t), endpoint)
		same(t, "defragment", err, nil)
	}
	for _, hash := range hashes {
		same(t, "hash", hash, hashes[0])
	}
	_, err = client.HashKV(within(t), endpoints(t)[0], revision+1000000)
	refused(t, "the future", err, rpctypes.ErrGRPCFutureRev)
	_, err = client.MoveLeader(within(t), 4242)
	if err == nil {
		t.Fatal("nobody leads")
	}
}

func TestHealthService(t *testing.T) {
	for _, endpoint := range endpoints(t) {
		health := grpc_health_v1.NewHealthClient(connect(t, endpoint).ActiveConnection())
		answer, err := health.Check(within(t), &grpc_health_v1.HealthCheckRequest{})
		same(t, "check", err, nil)
		same(t, "serving", answer.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	}
}
