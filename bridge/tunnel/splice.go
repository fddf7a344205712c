package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
)

// Sizes of the copies of Splice. An idle direction holds a small buffer only.
const (
	smallCopy = 4 << 10
	largeCopy = largePiece
)

var smallCopies = sync.Pool{New: func() any { return new([smallCopy]byte) }}
var largeCopies = sync.Pool{New: func() any { return new([largeCopy]byte) }}

// Splice joins two connections until both directions have ended, closes both, and returns the bytes each way and the
// first error; an end or a close is none. The end of one direction is passed on by CloseWrite and leaves the other one
// running; a connection without CloseWrite is closed instead. Between two TCP connections the kernel does the copying.
// A panic of either direction is one of the caller's goroutine, after both are closed.
func Splice(a, b net.Conn) (aToB, bToA int64, err error) {
	var back error
	var fault any
	done := make(chan struct{})
	defer func() {
		closeBoth(a, b)
		if <-done; fault != nil {
			panic(fault)
		}
	}()
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				closeBoth(a, b)
				fault = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
		}()
		if bToA, back = copyHalf(a, b); back != nil {
			closeBoth(a, b)
		}
	}()
	if aToB, err = copyHalf(b, a); err != nil {
		closeBoth(a, b)
	}
	<-done
	if err == nil || isEnd(err) {
		err = back
	}
	if isEnd(err) {
		err = nil
	}
	return aToB, bToA, err
}

func closeBoth(a, b net.Conn) { _, _ = a.Close(), b.Close() }

// errEnded says that a direction has ended and its end cannot be passed on but by closing the connection.
var errEnded = errors.New("ended")

func isEnd(err error) bool {
	return errors.Is(err, errEnded) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// copyHalf copies src to dst to the end and passes the end on.
func copyHalf(dst, src net.Conn) (int64, error) {
	n, err := copyAll(dst, src)
	if err != nil {
		return n, err
	}
	if c, ok := dst.(interface{ CloseWrite() error }); ok {
		return n, c.CloseWrite()
	}
	return n, errEnded
}

func copyAll(dst, src net.Conn) (int64, error) {
	if from, ok := src.(*stream); ok {
		return from.WriteTo(dst)
	}
	if to, ok := dst.(*net.TCPConn); ok {
		if from, ok := src.(*net.TCPConn); ok {
			return to.ReadFrom(from)
		}
	}
	var sum int64
	for {
		n, err := copySmall(dst, src)
		sum += n
		if err == nil {
			n, err = copyLarge(dst, src)
			sum += n
		}
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// copySmall copies until a read fills its buffer.
func copySmall(dst io.Writer, src io.Reader) (int64, error) {
	buf := smallCopies.Get().(*[smallCopy]byte)
	defer smallCopies.Put(buf)
	return copyWhile(dst, src, buf[:], func(n int) bool { return n < smallCopy })
}

// copyLarge copies until a read gives little.
func copyLarge(dst io.Writer, src io.Reader) (int64, error) {
	buf := largeCopies.Get().(*[largeCopy]byte)
	defer largeCopies.Put(buf)
	return copyWhile(dst, src, buf[:], func(n int) bool { return n >= smallCopy })
}

// copyWhile copies while goOn approves of the size of the last read.
func copyWhile(dst io.Writer, src io.Reader, buf []byte, goOn func(n int) bool) (sum int64, err error) {
	for {
		n, err := src.Read(buf)
		if n > 0 {
			m, werr := dst.Write(buf[:n])
			if sum += int64(m); werr != nil {
				return sum, werr
			}
		}
		if err != nil || !goOn(n) {
			return sum, err
		}
	}
}
