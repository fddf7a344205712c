package part

import (
	"fmt"
	"image"
	"os"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// A picture is what a worker draws into and hostd-net reads: a frame memory, which cannot change its size, and the socket between
// the two. Nobody can be made to give a memory back, so taking it back is handing the worker another.
type picture struct {
	size   image.Point
	stride int      // bytes
	memory *os.File // readable and writable
	worker *os.File // the worker's end of the socket
	net    *os.File // hostd-net's end
}

func newPicture(size image.Point) (*picture, error) {
	if err := frame.CheckSize(size); err != nil {
		return nil, err
	}
	p := &picture{size: size, stride: size.X * frame.BytesPerPixel}
	fd, err := unix.MemfdCreate("hostd-frame", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("frame memory: %w", err)
	}
	p.memory = os.NewFile(uintptr(fd), "hostd-frame")
	if err = unix.Fchmod(fd, 0o600); err == nil {
		err = unix.Ftruncate(fd, int64(p.stride)*int64(size.Y))
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err == nil {
		p.worker, p.net, err = ipc.Pair()
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("frame memory: %w", err)
	}
	return p, nil
}

// forWorker gives new descriptors of the memory, readable and writable, and of the socket.
func (p *picture) forWorker() ([]*os.File, error) {
	return pair(func() (*os.File, error) { return duplicate(p.memory) }, p.worker)
}

// forNet gives new descriptors of the memory, readable only, and of the socket.
func (p *picture) forNet() ([]*os.File, error) {
	return pair(func() (f *os.File, err error) {
		withFD(p.memory, func(fd uintptr) error {
			f, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY, 0)
			return err
		})
		return f, err
	}, p.net)
}

func pair(memory func() (*os.File, error), socket *os.File) ([]*os.File, error) {
	m, err := memory()
	if err != nil {
		return nil, fmt.Errorf("frame memory: %w", err)
	}
	s, err := duplicate(socket)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("picture socket: %w", err)
	}
	return []*os.File{m, s}, nil
}

// withFD calls f with the descriptor of a file, which stays as it is: File.Fd would make a shared socket blocking.
func withFD(file *os.File, f func(fd uintptr) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(fd) }); e != nil {
		return e
	}
	return err
}

func duplicate(file *os.File) (f *os.File, err error) {
	err = withFD(file, func(fd uintptr) error {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(n), file.Name())
		}
		return err
	})
	return f, err
}

// close ends the socket for both sides at once, so that no picture is asked for any more.
func (p *picture) close() {
	if p.worker != nil {
		withFD(p.worker, func(fd uintptr) error { return unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	for _, f := range []*os.File{p.memory, p.worker, p.net} {
		if f != nil {
			f.Close()
		}
	}
}
