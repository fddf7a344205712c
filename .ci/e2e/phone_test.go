package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/frame"
)

// showMonitors divides the computer's screen into two monitors, and has the session page of a tab show the right one and then all.
func (b *Chromium) showMonitors(page int) {
	w := b.w
	w.T.Helper()
	_, err := w.Desk.Output(w.Ctx, "sh", "-c", "xrandr --setmonitor left 512/100x768/200+0+0 VNC-0 && xrandr --setmonitor right 512/100x768/200+512+0 none")
	w.Check(err)
	m, err := Shot(w.Desk)
	w.Check(err)
	right := m.Rect
	right.Min.X = 512
	for _, c := range []struct {
		monitor string
		shows   frame.Image
	}{{"2", m.Part(right)}, {"0", m}} {
		b.Do(step{"page": page, "see": "Monitor", "choose": step{"#monitor": c.monitor}, "shot": "monitor-" + c.monitor})
		w.Within(20*time.Second, "the page shows monitor "+c.monitor, func() (bool, error) {
			want := fmt.Sprint([]any{float64(c.shows.Rect.Dx()), float64(c.shows.Rect.Dy()), float64(Count(c.shows, background))})
			got := fmt.Sprint(b.Do(step{"page": page, "eval": fmt.Sprintf(`(() => {
				const c = document.querySelector("#screen canvas"), all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
				let n = 0;
				for (let i = 0; i < all.length; i += 4) n += (all[i] << 16 | all[i + 1] << 8 | all[i + 2]) === %d;
				return [c.width, c.height, n];
			})()`, background)})[0])
			return got == want, fmt.Errorf("it has %s, the screen %s", got, want)
		})
	}
}

// phone uses the computer from a phone: by its keyboard, which composes words, and with a finger on the desktop and on the bar.
func (b *Chromium) phone(d *Furniture, typed string) {
	w := b.w
	w.T.Helper()
	at := func(x, y int) step { return step{"x": x, "y": y} }
	do := func(steps ...step) []any {
		w.T.Helper()
		for _, s := range steps {
			s["who"], s["phone"] = "phone", true
		}
		return b.Do(steps...)
	}
	do(step{"go": "/computers", "see": "E-mail address", "shot": "phone-1-email"}, step{"fill": step{"#email": Account}, "see": "Password of your account"},
		step{"fill": step{"#password": w.Password}, "at": "/computers", "shot": "phone-2-computers"},
		step{"tap": "a.name >> text=" + Computer, "see": "Log in to this computer", "shot": "phone-3-login"}, step{"code": w.Code, "see": "You control it"})
	do(step{"tap": "#keyboard"}, step{"touch": "by phone "}, step{"tap": "#screen canvas", "place": at(70, 176)}, step{"touch": "wörds"}, step{"press": []string{"Backspace"}},
		step{"touch": "\n", "axe": true, "shot": "phone-4-session"})
	d.WaitTyped(typed + "by phone wörd\n")
	out, err := w.Desk.Output(w.Ctx, "xdotool", "getmouselocation")
	w.Check(err)
	if !strings.HasPrefix(out, "x:199 y:500 ") { // 360 pixels of the phone are 1024 of the computer
		w.T.Errorf("the finger has touched %s", out)
	}
	do(step{"tap": "#more", "see": "Full screen", "axe": true, "shot": "phone-5-more"}, step{"choose": step{"#size": "actual"}, "gone": "#tools"})
	part := func() string {
		return fmt.Sprint(do(step{"eval": `(() => {
			const c = document.querySelector("#screen canvas");
			return [c.width, ...c.getContext("2d").getImageData(5, 300, 1, 1).data];
		})()`})[0])
	}
	before := part()
	do(step{"swipe": step{"from": at(300, 400), "to": at(60, 400)}, "shot": "phone-6-moved"})
	w.Within(20*time.Second, "the picture moves with the finger", func() (bool, error) {
		now := part()
		return now != before, fmt.Errorf("its left edge is %s, was %s", now, before)
	})
	do(step{"tap": "#leave", "see": "You ended it."})
}
