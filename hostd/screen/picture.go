package screen

import (
	"errors"
	"fmt"
	"image"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// A picture is a frame memory with the socket it belongs to.
type picture struct {
	conn  *ipc.Conn
	img   frame.Image
	grabs chan bool // a Grab waits; true: a full one. Closed at the socket's end
	once  sync.Once
	done  chan struct{} // receive has ended
}

// newPicture maps the memory and starts to listen on the socket. The files are used up.
func newPicture(m ipc.Memory, files []*os.File) (*picture, error) {
	defer ipc.CloseFiles(files)
	if len(files) != 2 {
		return nil, errors.New("a frame memory came without its two descriptors")
	}
	if err := frame.CheckSize(m.Size); err != nil {
		return nil, err
	}
	if m.Stride < m.Size.X*frame.BytesPerPixel || m.Stride > 1<<20 {
		return nil, fmt.Errorf("rows of %d bytes for %d pixels", m.Stride, m.Size.X)
	}
	pix, err := mapMemory(files[0], m.Stride*m.Size.Y)
	if err != nil {
		return nil, err
	}
	conn, err := ipc.FileConn(files[1])
	if err != nil {
		unix.Munmap(pix)
		return nil, err
	}
	p := &picture{
		conn: conn, img: frame.Image{Pix: pix, Stride: m.Stride, Rect: image.Rectangle{Max: m.Size}},
		grabs: make(chan bool, 1), done: make(chan struct{}),
	}
	go p.receive()
	return p, nil
}

// mapMemory maps a memfd that cannot become shorter: otherwise whoever shares it could end this process.
func mapMemory(f *os.File, size int) ([]byte, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var pix []byte
	var merr error
	err = raw.Control(func(fd uintptr) {
		seals, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
		if err != nil {
			merr = fmt.Errorf("the frame memory is not a memfd: %w", err)
			return
		}
		if seals&unix.F_SEAL_SHRINK == 0 {
			merr = errors.New("the frame memory is not sealed against shrinking")
			return
		}
		var st unix.Stat_t
		if merr = unix.Fstat(int(fd), &st); merr != nil {
			return
		}
		if st.Size < int64(size) {
			merr = fmt.Errorf("the frame memory has %d bytes, not %d", st.Size, size)
			return
		}
		pix, merr = unix.Mmap(int(fd), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	})
	if err == nil {
		err = merr
	}
	return pix, err
}

// receive takes Grabs until the socket ends. One waits at most: a second joins it.
func (p *picture) receive() {
	defer close(p.done)
	defer close(p.grabs)
	buf := make([]byte, 64)
	for {
		b, files, err := p.conn.Receive(buf)
		ipc.CloseFiles(files)
		if err != nil {
			return
		}
		g, err := ipc.ParseGrab(b)
		if err != nil {
			return
		}
		select {
		case p.grabs <- g.Full:
			continue
		default:
		}
		select {
		case waiting := <-p.grabs:
			g.Full = g.Full || waiting
		default:
		}
		p.grabs <- g.Full // this is the only sender, and there is room
	}
}

// hangUp ends the socket, so that nobody waits for its other end. Any goroutine may call it.
func (p *picture) hangUp() { p.once.Do(func() { p.conn.Close() }) }

// close frees everything. Only the one who writes to the memory may call it.
func (p *picture) close() {
	p.hangUp()
	<-p.done
	unix.Munmap(p.img.Pix)
}
