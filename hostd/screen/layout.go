package screen

import (
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// Names of what is made here: RandR's modes, and its monitors, which end with their number in hexadecimal digits.
const (
	modePrefix    = "helmline-"
	monitorPrefix = "screen-"
)

// vncOutput begins the name of the output of an Xtigervnc, which has no screen that a size could harm.
const vncOutput = "VNC-"

// maxNames is how many names of monitors are remembered.
const maxNames = 64

// dotsPerMM is the density that screens of no real size are given: 96 dpi.
const dotsPerMM = 96 / 25.4

// watchLayout readies RandR. Monitors are those of its version 1.5; without it the display is one screen.
func (d *display) watchLayout() error {
	ok, err := d.extension("RANDR")
	if err != nil || !ok {
		return err
	}
	v, err := randr.QueryVersion(d.x, 1, 5).Reply()
	if err != nil {
		return fmt.Errorf("RANDR: %w", err)
	}
	d.randr = v.MajorVersion > 1 || v.MinorVersion >= 5
	d.names = make(map[xproto.Atom]uint32)
	return nil
}

// screens asks for the monitors. What of one lies outside the display's size, which may be changing, is cut off.
func (d *display) screens() ([]frame.Screen, error) {
	whole := image.Rectangle{Max: d.size}
	if !d.randr {
		return []frame.Screen{{Rect: whole}}, nil
	}
	r, err := randr.GetMonitors(d.x, d.root, true).Reply()
	if err != nil {
		return nil, err
	}
	var all []frame.Screen
	for _, m := range r.Monitors {
		rect := image.Rect(int(m.X), int(m.Y), int(m.X)+int(m.Width), int(m.Y)+int(m.Height)).Intersect(whole)
		if rect.Empty() || len(all) == frame.MaxScreens {
			continue
		}
		id, err := d.screenID(m.Name)
		if err != nil {
			return nil, err
		}
		for slices.ContainsFunc(all, func(s frame.Screen) bool { return s.ID == id }) {
			id++
		}
		all = append(all, frame.Screen{ID: id, Rect: rect})
	}
	if len(all) == 0 {
		all = append(all, frame.Screen{Rect: whole})
	}
	return all, nil
}

// screenID makes a number of a monitor's name: the same at each start.
func (d *display) screenID(name xproto.Atom) (uint32, error) {
	if id, ok := d.names[name]; ok {
		return id, nil
	}
	r, err := xproto.GetAtomName(d.x, name).Reply()
	if err != nil {
		return 0, err
	}
	hash := fnv.New32a()
	io.WriteString(hash, r.Name)
	id := hash.Sum32()
	if digits, ok := strings.CutPrefix(r.Name, monitorPrefix); ok {
		if n, err := strconv.ParseUint(digits, 16, 32); err == nil {
			id = uint32(n)
		}
	}
	if len(d.names) >= maxNames {
		clear(d.names)
	}
	d.names[name] = id
	return id, nil
}

// layOut gives the display another size and other screens, and says what came of it. Only an Xtigervnc's is changed: what a real
// screen can show is not the viewer's to say.
func (d *display) layOut(size image.Point, screens []frame.Screen) (result uint8, err error) {
	if frame.CheckLayout(size, screens) != nil {
		return ipc.ResizeInvalid, nil
	}
	if !d.randr {
		return ipc.ResizeProhibited, nil
	}
	o, err := d.vncOutput()
	if err != nil {
		return 0, err
	}
	if o == nil {
		return ipc.ResizeProhibited, nil
	}
	limits, err := randr.GetScreenSizeRange(d.x, d.root).Reply()
	if err != nil {
		return 0, err
	}
	if size.X < int(limits.MinWidth) || size.Y < int(limits.MinHeight) || size.X > int(limits.MaxWidth) || size.Y > int(limits.MaxHeight) {
		return ipc.ResizeInvalid, nil
	}
	xproto.GrabServer(d.x) // programs see what has become of it, nothing between
	defer xproto.UngrabServer(d.x)
	if err := d.askSize(); err != nil {
		return 0, err
	}
	if err = d.unsplit(); err == nil && size != d.size {
		err = o.resize(size, d.size)
	}
	if err == nil && (len(screens) > 1 || screens[0].Rect != image.Rectangle{Max: size}) {
		err = d.split(screens, o.id)
	}
	switch {
	case d.gone():
		return 0, err
	case err != nil:
		return ipc.ResizeResources, nil
	}
	return ipc.ResizeDone, nil
}

// unsplit does away with the monitors that somebody has made: what is left is the output's own.
func (d *display) unsplit() error {
	r, err := randr.GetMonitors(d.x, d.root, false).Reply()
	if err != nil {
		return err
	}
	for _, m := range r.Monitors {
		if !m.Automatic {
			if err := randr.DeleteMonitorChecked(d.x, d.root, m.Name).Check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// split makes monitors of an output, which the first one has.
func (d *display) split(screens []frame.Screen, output randr.Output) error {
	for i, s := range screens {
		name := fmt.Sprintf("%s%08x", monitorPrefix, s.ID)
		atom, err := xproto.InternAtom(d.x, false, uint16(len(name)), name).Reply()
		if err != nil {
			return err
		}
		m := randr.MonitorInfo{
			Name: atom.Atom, Primary: i == 0, X: int16(s.Rect.Min.X), Y: int16(s.Rect.Min.Y),
			Width: uint16(s.Rect.Dx()), Height: uint16(s.Rect.Dy()),
			WidthInMillimeters: millimetres(s.Rect.Dx()), HeightInMillimeters: millimetres(s.Rect.Dy()),
		}
		if i == 0 {
			m.NOutput, m.Outputs = 1, []randr.Output{output}
		}
		if err := randr.SetMonitorChecked(d.x, d.root, m).Check(); err != nil {
			return err
		}
	}
	return nil
}

func millimetres(pixels int) uint32 { return uint32(float64(pixels)/dotsPerMM + 0.5) }

// An output is an Xtigervnc's, with what it can show.
type output struct {
	d     *display
	id    randr.Output
	crtc  randr.Crtc
	stamp xproto.Timestamp
	modes []mode
}

// A mode is a size that an output can have.
type mode struct {
	id   randr.Mode
	size image.Point
	made bool // here
}

// vncOutput is the display's only output if that is an Xtigervnc's, else nil.
func (d *display) vncOutput() (*output, error) {
	r, err := randr.GetScreenResourcesCurrent(d.x, d.root).Reply()
	if err != nil {
		return nil, err
	}
	if len(r.Outputs) != 1 {
		return nil, nil
	}
	info, err := randr.GetOutputInfo(d.x, r.Outputs[0], r.ConfigTimestamp).Reply()
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(info.Name), vncOutput) || len(info.Crtcs) == 0 {
		return nil, nil
	}
	o := &output{d: d, id: r.Outputs[0], crtc: info.Crtcs[0], stamp: r.ConfigTimestamp}
	names := r.Names
	for _, m := range r.Modes {
		name := names[:min(int(m.NameLen), len(names))]
		names = names[len(name):]
		if slices.Contains(info.Modes, randr.Mode(m.Id)) {
			o.modes = append(o.modes, mode{randr.Mode(m.Id), image.Pt(int(m.Width), int(m.Height)), strings.HasPrefix(string(name), modePrefix)})
		}
	}
	return o, nil
}

// resize gives the screen and its output a size, or back the old one. The output is off meanwhile, as it may not show more than there is.
func (o *output) resize(size, old image.Point) error {
	to, err := o.mode(size)
	if err != nil {
		return err
	}
	err = o.set(to, size)
	if err != nil {
		if back, err2 := o.mode(old); err2 == nil {
			err = errors.Join(err, o.set(back, old))
		}
		return err
	}
	for _, m := range o.modes {
		if m.made && m.id != to {
			randr.DeleteOutputMode(o.d.x, o.id, m.id)
			randr.DestroyMode(o.d.x, m.id)
		}
	}
	return nil
}

func (o *output) set(to randr.Mode, size image.Point) error {
	if err := o.show(0); err != nil {
		return err
	}
	x := o.d.x
	if err := randr.SetScreenSizeChecked(x, o.d.root, uint16(size.X), uint16(size.Y), millimetres(size.X), millimetres(size.Y)).Check(); err != nil {
		return err
	}
	return o.show(to)
}

// show has the output show a mode, or none.
func (o *output) show(m randr.Mode) error {
	var outputs []randr.Output
	if m != 0 {
		outputs = []randr.Output{o.id}
	}
	r, err := randr.SetCrtcConfig(o.d.x, o.crtc, xproto.TimeCurrentTime, o.stamp, 0, 0, m, randr.RotationRotate0, outputs).Reply()
	if err == nil && r.Status != randr.SetConfigSuccess {
		err = fmt.Errorf("the output does not take a mode: %d", r.Status)
	}
	return err
}

// mode is that of a size, which is made if need be.
func (o *output) mode(size image.Point) (randr.Mode, error) {
	if i := slices.IndexFunc(o.modes, func(m mode) bool { return m.size == size }); i >= 0 {
		return o.modes[i].id, nil
	}
	name := fmt.Sprintf("%s%dx%d", modePrefix, size.X, size.Y)
	w, h := uint16(size.X), uint16(size.Y)
	r, err := randr.CreateMode(o.d.x, o.d.root, randr.ModeInfo{
		Width: w, Height: h, DotClock: uint32(size.X) * uint32(size.Y) * 60, Htotal: w, Vtotal: h, NameLen: uint16(len(name)),
	}, name).Reply()
	if err != nil {
		return 0, err
	}
	o.modes = append(o.modes, mode{r.Mode, size, true})
	return r.Mode, randr.AddOutputModeChecked(o.d.x, o.id, r.Mode).Check()
}
