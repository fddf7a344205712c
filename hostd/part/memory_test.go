package part

import (
	"image"
	"testing"

	"golang.org/x/sys/unix"
)

// TigerVNC until 1.16.2: others could read the memory that a picture was captured into. Here nobody but its owner may open it, and who gets
// it can neither change its size nor, as hostd-net, write into it.
func TestMemoryIsNobodyElses(t *testing.T) {
	p, err := newPicture(image.Pt(64, 48))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	var st unix.Stat_t
	if err := unix.Fstat(int(p.memory.Fd()), &st); err != nil || st.Mode&0o777 != 0o600 {
		t.Errorf("mode %o, %v", st.Mode&0o777, err)
	}
	files, err := p.forNet()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		defer f.Close()
	}
	if err := unix.Ftruncate(int(p.memory.Fd()), 0); err == nil {
		t.Error("it can be cut")
	}
	if _, err := files[0].WriteAt([]byte{1}, 0); err == nil {
		t.Error("hostd-net can write into it")
	}
}
