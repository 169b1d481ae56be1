package file

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// appenderDir makes the test binary a process that appends to the store there and acknowledges on its output.
const appenderDir = "TELLERGATE_TEST_APPENDER_DIR"

// fileLimit, in the same process, is the size that no file may exceed: a disk that is full.
const fileLimit = "TELLERGATE_TEST_FILE_LIMIT"

func appendUntilKilled(dir string) int {
	s, _, err := Open(dir)
	if err != nil {
		fmt.Println("fault:", err)
		return 1
	}
	if limit, err := strconv.ParseUint(os.Getenv(fileLimit), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			fmt.Println("fault:", err)
			return 1
		}
	}
	for ctx := context.Background(); ; {
		head, err := s.Head(ctx)
		if err == nil {
			head, err = s.Append(ctx, change(head.Seq, strings.Repeat(fmt.Sprint(head.Seq, " "), 1000)))
		}
		if err != nil {
			fmt.Println("fault:", err)
			return 1
		}
		fmt.Println(head.Seq, head.Hash)
	}
}

// TestKilledProcess kills an appending process again and again: what it acknowledged must be there.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	acknowledged := make(map[uint64]string)
	for range 12 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), appenderDir+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		killAt := 1 + rand.IntN(8)
		said := bufio.NewScanner(out)
		for n := 1; said.Scan(); n++ {
			var seq uint64
			var hash string
			_, err := fmt.Sscan(said.Text(), &seq, &hash)
			require.NoError(t, err, "%s", said.Text())
			acknowledged[seq] = hash
			if n == killAt {
				time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { _ = child.Process.Kill() })
			}
		}
		require.ErrorContains(t, child.Wait(), "killed")

		s, _ := mustOpen(t, dir)
		for seq, hash := range acknowledged {
			revision, err := s.Revision(ctx, seq)
			require.NoError(t, err)
			require.Equal(t, hash, revision.Hash.String())
			content, err := s.Content(ctx, revision.Parts["rules"])
			require.NoError(t, err)
			require.NotEmpty(t, content)
		}
		require.NoError(t, s.Close())
	}
	require.NotEmpty(t, acknowledged)
}

// TestFullDisk lets a process append until the kernel refuses to let the journal grow in the middle of a line.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), appenderDir+"="+dir, fileLimit+"=10000")
	out, err := child.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	acknowledged := len(said) - 1
	require.Greater(t, acknowledged, 5)
	require.Equal(t, fmt.Sprintf("fault: revision %d was not stored, nothing has changed: writing it failed: write %s:"+
		" file too large: free space or repair the disk, then try again", acknowledged+1, filepath.Join(dir, journalName)),
		said[acknowledged])

	s, recovery := mustOpen(t, dir)
	require.Equal(t, Recovery{}, recovery, "what was written of the line was taken back at once")
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.EqualValues(t, acknowledged, head.Seq)
	_, err = s.Append(ctx, change(head.Seq, "there is room again"))
	require.NoError(t, err)
	require.NoError(t, s.Close())

	// The same for a content: neither it nor the revision is there.
	child = exec.Command(os.Args[0])
	child.Env = append(os.Environ(), appenderDir+"="+t.TempDir(), fileLimit+"=1500")
	out, err = child.Output()
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Regexp(t, `^fault: revision 1 was not stored, nothing has changed: writing part "[a-z/]+" failed: write .*\.tmp:`+
		` file too large: free space or repair the disk, then try again\n$`, string(out))
	s, _ = mustOpen(t, strings.TrimPrefix(child.Env[len(child.Env)-2], appenderDir+"="))
	left, err := os.ReadDir(filepath.Join(s.dir, contentName))
	require.NoError(t, err)
	for _, entry := range left {
		require.NotContains(t, entry.Name(), temporary)
	}
	require.NoError(t, s.Close())
}
