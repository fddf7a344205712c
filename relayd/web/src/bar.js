// The bar above the desktop, and what lies over that: who asks for control, what was refused, and that the connection is lost.
import { combinations, keysymOf, sendAll } from "./keys.js";
import { Refused } from "./refusal.js";

const $ = id => document.getElementById(id);
const me = $("session").dataset.account;
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const seed = "\u00a0".repeat(64); // what the field of the on-screen keyboard holds, so that something can be deleted
const fingers = matchMedia("(pointer: coarse)"); // they do not reach scroll bars, and have no keyboard

const finishTime = 5000; // ms that the computer has for what it does at the end
const closings = { "lock": "Locking its screen…", "log off": "Logging its user off…" };

const toggle = button => { button.ariaPressed = button.ariaPressed !== "true"; };

export class Bar {
    // leave ends the session; want asks for control ("control"), takes it ("force") or gives it up ("watch").
    constructor(element, { leave, want }) {
        this.rfb = null;
        this.left = false; // the person has ended it
        this.controlled = false; // they had control at some time
        this.closing = ""; // what the computer does at the end, and what it has said of that
        this.outcome = "";
        this.state = null; // what the computer has last said; null: nothing yet
        this.joined = null; // who is, as the relay has last said; null: it has not yet
        const on = (id, event, f) => $(id).addEventListener(event, f);
        on("size", "change", () => this.size());
        on("quality", "change", () => this.quality());
        on("monitor", "change", () => this.channel.say({ host: { screen: Number($("monitor").value) } }));
        on("at-end", "change", () => this.channel.say({ host: { at_end: $("at-end").value } }));
        on("full", "click", () => document.fullscreenElement ? document.exitFullscreen() : $("desk").requestFullscreen());
        on("keys", "change", () => {
            sendAll(this.rfb, $("keys").value);
            $("keys").value = "";
        });
        on("move", "click", () => {
            toggle($("move"));
            this.size();
        });
        on("more", "click", () => this.unfold($("more").ariaExpanded === "false"));
        on("keyboard", "mousedown", e => e.preventDefault()); // who types goes on to do so, until the click
        on("keyboard", "click", () => document.activeElement === $("touch") ? this.rfb.focus() : $("touch").focus());
        for (const event of ["focus", "blur"]) on("touch", event, () => this.typing());
        for (const event of ["input", "compositionend"]) on("touch", event, e => this.typed(e.isComposing));
        on("clipboard-open", "click", () => $("clipboard").showModal());
        on("clipboard-send", "click", () => this.rfb.clipboardPasteFrom($("clipboard-text").value));
        on("people-open", "click", () => $("people").showModal());
        on("take", "click", () => want("control"));
        on("force", "click", () => want("force"));
        on("watch", "click", () => want("watch"));
        on("hand-over", "click", () => this.answer(true));
        on("keep", "click", () => this.answer(false));
        on("told-close", "click", () => this.tell(null));
        on("leave", "click", () => {
            this.left = true;
            leave();
        });
        on("leave-lost", "click", () => {
            this.left = true;
            leave();
        });
        for (const [id, event] of Object.entries({ size: "change", quality: "change", "at-end": "change", keys: "change", monitor: "change", full: "click", take: "click", force: "click", watch: "click" })) {
            on(id, event, () => {
                this.unfold(false);
                this.rfb.focus();
            });
        }
        for (const [name, group] of combinations()) {
            const list = document.createElement("optgroup");
            list.label = name;
            list.append(...group.map(([text, value]) => new Option(text, value)));
            $("keys").append(list);
        }
        this.restart();
        // The desktop takes every key, so one combination leads out of it.
        addEventListener("keydown", e => {
            if (!e.ctrlKey || !e.altKey || !e.shiftKey || e.code !== "KeyB" || $("desk").hidden) return;
            e.preventDefault();
            e.stopImmediatePropagation();
            [...element.querySelectorAll("select, button")].find(e => e.checkVisibility()).focus();
        }, true);
    }

    attach(rfb, channel) {
        this.rfb = rfb;
        this.channel = channel;
        this.closing = this.outcome = "";
        this.finished = null;
        this.state = null;
        this.lost(null);
        this.show();
        this.size();
        this.quality();
        this.typing();
    }

    // unfold shows, on a small screen, what does not fit into the bar.
    unfold(open) {
        $("more").ariaExpanded = open;
    }

    size() {
        const way = $("size").value;
        this.rfb.resizeSession = way === "desktop";
        this.rfb.scaleViewport = way !== "actual";
        this.rfb.clipViewport = fingers.matches;
        this.rfb.dragViewport = way === "actual" && fingers.matches && $("move").ariaPressed === "true";
        $("move").hidden = way !== "actual";
    }

    quality() {
        this.rfb.qualityLevel = Number($("quality").value);
    }

    // copied shows what was copied on the computer, and puts it into this machine's clipboard where the browser lets it.
    copied(text) {
        $("clipboard-text").value = text;
        if (document.hasFocus()) navigator.clipboard?.writeText(text).catch(() => {}); // it stands in the dialogue all the same
    }

    // typing says whether the on-screen keyboard is there; it stays when the desktop is touched.
    typing() {
        const there = document.activeElement === $("touch");
        $("keyboard").ariaPressed = there;
        if (this.rfb) this.rfb.focusOnClick = !there;
    }

    // typed sends what the on-screen keyboard has changed in its field. While it composes a word the field is left alone.
    typed(composes) {
        const now = [...$("touch").value];
        let same = 0;
        while (same < this.sent.length && now[same] === this.sent[same]) same++;
        for (let n = same; n < this.sent.length; n++) this.rfb.sendKey(keysymOf("\b"));
        for (const c of now.slice(same)) this.rfb.sendKey(keysymOf(c));
        this.sent = now;
        if (!composes) this.restart();
    }

    // restart empties the field of what has been typed.
    restart() {
        $("touch").value = seed;
        this.sent = [...seed];
    }

    // hear takes in a word of the computer, or who is here from the relay.
    hear(word) {
        if (word.host?.state) {
            const before = this.state?.refusal;
            this.state = word.host.state;
            if (this.state.ended) this.finished?.(this.state.ended);
            const now = this.state.refusal;
            if (now && now.detail !== before?.detail) this.tell(new Refused(now).message);
            else if (!now && before) this.tell(null);
            this.show();
        }
        if (word.joined) this.joined = word.joined;
        if (this.joined) this.people();
    }

    // finish has the computer do what it is to do at the end, and waits until it says what has come of that. Who ends the session once more
    // does not wait.
    async finish() {
        const s = this.state;
        if (this.finished || !s?.control || !(s.at_end in closings)) return;
        this.closing = s.at_end;
        this.over(closings[s.at_end]);
        this.outcome = await new Promise(done => {
            this.finished = done;
            setTimeout(done, finishTime, "");
            this.channel.say({ host: { end: true } });
        });
    }

    // show brings the bar up to date with the state.
    show() {
        const s = this.state;
        const control = s ? s.control : !this.rfb.viewOnly;
        if (s?.shows) this.rfb.viewOnly = !s.control;
        const since = s?.holder && s.since ? ` since ${time.format(new Date(s.since))}` : "";
        $("role").textContent = !s ? "" : s.control ? "You control it" : s.asking ? `Asking ${s.holder} for control…` :
            s.holder ? `${s.holder === me ? "Another of your viewers" : s.holder} controls it${since}; you watch` : "Nobody controls it; you watch";
        $("role").dataset.control = control;
        for (const id of ["keys", "keyboard", "clipboard-send"]) $(id).disabled = !control;
        $("watch").hidden = !s?.shows || !control;
        $("take").hidden = !s?.shows || control || s.asking;
        $("take").textContent = s?.holder && s.holder !== me ? "Ask for control" : "Take control";
        $("force").hidden = !s?.shows || control || !s.force || !s.holder || s.holder === me;
        $("recorded").hidden = !s?.recorded;
        $("greeter").hidden = !s?.greeter;
        this.controlled ||= Boolean(s?.control);
        $("monitors").hidden = !(s?.screens > 1);
        if (s?.screens > 1 && $("monitor").options.length !== s.screens + 1) {
            $("monitor").replaceChildren(new Option("all", 0), ...Array.from({ length: s.screens }, (_, n) => new Option(n + 1, n + 1)));
        }
        if (s?.screens > 1) $("monitor").value = s.screen;
        $("at-end").hidden = !s?.at_end || !control;
        if (s?.at_end) $("at-end").value = s.at_end;
        $("asked").hidden = !s?.asker;
        if (s?.asker) {
            $("asks").textContent = s.asks;
            $("asks-left").textContent = s.left;
        }
    }

    answer(grant) {
        this.channel.say({ host: { answer: this.state.asker, grant } });
        $("asked").hidden = true;
        this.rfb.focus();
    }

    // people shows who is joined. Who of them has control is the computer's to say.
    people() {
        $("people-open").textContent = `Who is here (${this.joined.length})`;
        $("people-list").replaceChildren(...this.joined.map(j => {
            const line = document.createElement("li");
            const controls = j.session === this.state?.holds;
            const what = controls ? j.own ? "control it" : "controls it" : j.own ? "watch" : "watches";
            const who = j.own ? "You" : j.account === me ? "Another of your viewers" : j.account;
            line.textContent = `${who} ${what}, here since ${time.format(new Date(j.since))}`;
            return line;
        }));
    }

    // latency shows the round trip to the computer, or that it does not answer.
    latency(ms) {
        $("latency").textContent = ms === null ? "" : `${Math.max(1, Math.round(ms))} ms`;
        if (!this.until && !this.finished) this.over(ms === null ? "The computer does not answer. Waiting for it…" : "");
    }

    // tell shows a text until it is closed, or with null none.
    tell(text) {
        $("told").hidden = !text;
        $("told-text").textContent = text ?? "";
    }

    // keepPicture leaves the last picture in place, which noVNC takes away when it ends.
    keepPicture() {
        const from = $("screen").querySelector("canvas"), to = $("last");
        if (!from?.width || !from.height) return;
        to.width = from.width;
        to.height = from.height;
        to.getContext("2d").drawImage(from, 0, 0);
    }

    // lost says that the connection is lost and how long it is tried to have it back, or with null that there is one.
    lost(until) {
        clearInterval(this.counts);
        this.until = until;
        $("last").hidden = !until;
        this.over("");
        if (!until) return;
        const count = () => this.over(`Connection lost. Coming back… (${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s)`);
        count();
        this.counts = setInterval(count, 1000);
    }

    over(text) {
        $("lost").hidden = !text;
        if ($("lost-text").textContent !== text) $("lost-text").textContent = text;
    }
}
