// The session page: reaches the computer, has the person log in to it, and shows its desktop with a bar above. After a cut it comes back
// by itself.
import "./novideo.js";
import RFB from "@novnc/novnc";
import { Bar } from "./bar.js";
import { Channel } from "./channel.js";
import { Memory, fingerprints } from "./pin.js";
import { Refused, noRoute, refusalOf } from "./refusal.js";
import { Pass } from "./resume.js";

const $ = id => document.getElementById(id);
const page = $("session").dataset; // computer, name, role, account; and what refusal.js reads
const memory = new Memory(page.computer);
const reachTime = 25000; // ms; the relay itself gives the computer 10 s
const returnTime = 30000; // ms after a cut in which the page tries to come back; the computer waits as long
const tryTime = 6000; // ms for one try of that
const greetTime = 10000; // ms in which a computer that is reached shows its key
const keptTime = 28000; // ms in which a computer that has refused control still knows who has logged in, a little less than that
const loginTime = 75000; // ms for its answer to a log-in; the computer gives itself 60 s

// What a computer says no to, but may say yes to when something else is typed.
const typedWrong = new Set([1326, 1327, 1328, 1330, 1331, 1909, 5, 40019]);
const held = 40010, watchOnly = 40015;
// What a session does not end for, as it goes by: offline, not ready, relay restarting, no route to the relay.
const passing = new Set([40001, 40003, 40004, 40007]);

let run = null; // the attempt or session that the page shows; what an earlier one still says is not heard

// A Session is what lasts from the log-in on, over cuts.
class Session {
    constructor(pass, user) {
        this.pass = pass; // null: it cannot come back
        this.user = user;
        this.since = 0; // when the desktop came, ms; 0: not yet
        this.role = page.role; // what the person wants
        this.wants = page.role === "take" ? "control" : null; // said to the computer when the desktop is there
        this.kept = 0; // until when a log-in holds that did not bring control, ms
    }
}

// An Attempt is one connection, from its WebSocket to its end.
class Attempt {
    // typed is what the person has typed for an earlier attempt, null when they are still to be asked. A session that was cut off, or
    // refused control, is gone on with until that time.
    constructor(typed, session, until) {
        this.typed = typed;
        this.session = session;
        this.until = until ?? 0;
        this.back = Boolean(until);
        this.approved = false; // the key that the computer has shown
        this.ended = false;
    }

    get current() { return run === this; }

    step(text) {
        if (!this.session?.since) connecting(text);
    }

    async begin() {
        this.step("Contacting the relay…");
        const way = `/computers/${encodeURIComponent(page.computer)}`;
        const url = new URL(way + "/rfb", location.href);
        url.protocol = "wss:";
        try {
            const limit = this.back ? tryTime : reachTime;
            if (this.back) this.typed = { username: "", password: await this.session.pass.proof() };
            const wanted = this.session?.role ?? page.role;
            const role = this.session?.since && wanted === "control" ? "take" : wanted; // the computer gives what was there before, no more
            const ticket = await askTicket(way + "/ticket", role, limit);
            if (!this.current || !ticket) return;
            this.channel = await Channel.connect(url, ticket, limit, () => this.current && this.step("Reaching the computer…"));
            if (!this.current) return this.channel.close();
            this.step(this.typed ? "Logging in…" : "Waiting for the computer's own log-in…");
            this.rfb = new RFB($("screen"), this.channel, { shared: true });
        } catch (e) {
            if (this.current) this.failed((e instanceof Refused ? e : noRoute(e.message)).refusal);
            return;
        }
        const on = (event, f) => this.rfb.addEventListener(event, e => this.current && f(e.detail));
        on("serververification", d => this.verify(d.publickey));
        on("credentialsrequired", d => this.ask(d.types));
        on("securityfailure", d => this.refused(d.reason ?? "the computer did not accept the log-in"));
        on("connect", () => this.connected());
        on("disconnect", () => this.disconnected());
        on("clipboard", d => bar.copied(d.text));
        on("desktopname", d => { document.title = d.name || page.name; });
        this.rfb.viewOnly = (this.session?.role ?? page.role) === "watch";
        this.bound(this.back ? tryTime : greetTime);
        this.channel.start();
    }

    // bound gives the attempt up when the next step takes longer; 0: a person is asked, who may take their time.
    bound(ms) {
        clearTimeout(this.late);
        if (ms) this.late = setTimeout(() => this.current && !this.ended && this.tooLate(), ms);
    }

    tooLate() {
        this.ended = true;
        this.rfb.disconnect();
        this.failed(noRoute("the computer did not answer in time").refusal);
    }

    // failed is told that there is no connection. What a session may come back from is tried again.
    failed(refusal) {
        this.ended = true;
        if (!this.session?.since) return refuse(refusal);
        if (!passing.has(refusal.code) || Date.now() > this.until) return end(this.session.since, refusal);
        setTimeout(() => this.current && comeBack(this.session, this.until), 500 + Math.random() * 1000);
    }

    // verify compares the key that the computer shows with the one that it showed before. No secret leaves this page before.
    async verify(key) {
        this.bound(0);
        this.key = await fingerprints(key);
        if (!this.current) return;
        if (memory.pin && memory.pin !== this.key.pin) {
            show("changed");
            $("changed-key").textContent = this.key.short;
            return;
        }
        this.approve();
    }

    approve() {
        this.approved = true;
        this.bound(this.back ? tryTime : this.typed ? loginTime : 0);
        this.rfb.approveServer();
    }

    trust() {
        memory.keep({ pin: this.key.pin });
        if (this.ended || this.back) return start(null, this.session?.since ? null : this.session);
        connecting("Waiting for the computer's own log-in…");
        this.approve();
    }

    // ask has the person log in. noVNC knows ways to log in that are no secret to the relay; nothing is typed into those.
    ask(types) {
        if (!this.approved) {
            refuse(noRoute("the computer wants a log-in that is not encrypted to its key").refusal);
            this.ended = true;
            this.rfb.disconnect();
            return;
        }
        if (this.typed) {
            this.rfb.sendCredentials(this.typed);
            this.typed = null; // nothing typed is kept beyond the connection that it is for
            return;
        }
        $("code-link").hidden = !types.includes("username");
        askFor(types.includes("username") && !this.channel.facts.code_first);
        $("nobody").hidden = !this.channel.facts.nobody;
        $("key").textContent = this.key.short;
        $("key-first").hidden = Boolean(memory.pin);
        $("user").value ||= memory.user ?? "";
        askAgain("");
    }

    // submit logs in with what was typed, over a new connection when the computer has not waited.
    submit(username, secret) {
        memory.keep({ pin: this.key.pin });
        const pass = new Pass();
        const password = pass.secretWith(secret);
        const session = Object.assign(new Session(password && pass, username), this.session && { role: this.session.role, wants: this.session.wants });
        const typed = { username, password: password ?? secret };
        if (this.ended) return start(typed, session);
        this.session = session;
        this.bound(loginTime);
        connecting("Logging in…");
        this.rfb.sendCredentials(typed);
    }

    refused(reason) {
        this.bound(0);
        this.ended = true;
        const refusal = refusalOf(reason);
        if (typedWrong.has(refusal.code) && this.key) {
            this.back = false;
            askAgain(reason);
            return;
        }
        if (this.back && passing.has(refusal.code)) {
            this.failed(refusal);
            return;
        }
        this.back = false;
        if (refusal.code === held && this.session?.pass) this.session.kept ||= Date.now() + keptTime;
        refuse(refusal);
    }

    // as goes on as another role, without another log-in while the computer knows the last one.
    as(role) {
        const s = this.session ?? new Session(null, null);
        s.role = role;
        s.wants = role === "take" ? "control" : null;
        if (s.kept < Date.now()) return start(null, s);
        run = new Attempt(null, s, s.kept);
        run.begin();
    }

    connected() {
        const s = this.session;
        this.bound(0);
        if (s.user) memory.keep({ user: s.user });
        $("key-first").hidden = true;
        this.joined = true;
        s.since ||= Date.now();
        this.channel.onword = word => this.current && this.hear(word);
        this.channel.onlatency = ms => this.current && bar.latency(ms);
        this.channel.onending = () => this.current && bar.keepPicture();
        this.channel.talk();
        bar.attach(this.rfb, this.channel);
        s.kept = 0;
        if ($("desk").hidden) show("desk");
        this.back = false;
        this.rfb.focus();
    }

    hear(word) {
        const s = this.session;
        if (word.host?.state?.over) { // the picture says why for a while, and then the connection ends
            run = null;
            this.rfb.disconnect();
            return end(s.since, word.host.state.refusal);
        }
        bar.hear(word);
        if (!s.wants || !word.host?.state?.shows) return;
        if (!word.host.state.control) this.channel.say({ host: { want: s.wants } });
        s.wants = null;
    }

    // shut is the refusal when the computer does not offer RA2ne: it only takes viewers that encrypt the whole session.
    shut() {
        return this.channel.types && !this.channel.types.includes(6) ? JSON.parse(page.e2e) : null;
    }

    disconnected() {
        const before = this.ended;
        this.bound(0);
        this.ended = true;
        const refusal = this.channel.refusal;
        if (this.joined) {
            const cut = !bar.left && (!refusal || passing.has(refusal.code));
            if (cut && this.session.pass) return comeBack(this.session, Date.now() + returnTime);
            end(this.session.since, refusal);
        } else if (this.back && !before) {
            this.failed(refusal ?? noRoute("the computer ended the connection").refusal);
        } else if (!before && $("login").hidden && $("changed").hidden) {
            refuse(refusal ?? this.shut() ?? noRoute("the computer ended the connection").refusal);
        }
    }

    // upgrade comes back as somebody who may ask for control, and asks.
    upgrade(want) {
        if (!this.session.pass) return location.assign("?role=take");
        this.session.role = "take";
        this.session.wants = want;
        this.channel.drop();
    }
}

// askTicket gives what the WebSocket is opened with. Who is not signed in any more goes to do that, and comes back.
async function askTicket(url, role, limit) {
    const stop = new AbortController();
    const late = setTimeout(() => stop.abort(), limit);
    let got, said;
    try {
        got = await fetch(url, { method: "POST", body: new URLSearchParams({ role }), signal: stop.signal });
        said = await got.json();
    } catch {
        throw noRoute(stop.signal.aborted ? "the relay did not answer in time" : "the relay was not reached");
    } finally {
        clearTimeout(late);
    }
    if (got.status === 401) {
        location.reload();
        return null;
    }
    if (!got.ok) throw new Refused(said);
    return said.ticket;
}

function start(typed, session) {
    run?.rfb?.disconnect();
    bar.lost(null);
    run = new Attempt(typed, session, 0);
    run.begin();
}

// comeBack goes on with a session that was cut off.
function comeBack(session, until) {
    run = new Attempt(null, session, until);
    bar.lost(until);
    run.begin();
}

// show shows one part of the page and hides the others.
function show(part) {
    if (part !== "desk") bar.lost(null);
    for (const s of document.querySelectorAll("#session > section")) s.hidden = s.id !== part;
    $(part).querySelector("h1")?.focus();
}

function connecting(step) {
    if ($("connecting").hidden) show("connecting");
    $("step").textContent = step;
}

// askFor has the form ask for a user name and password, or for the access code.
function askFor(user) {
    $("user-row").hidden = !user;
    $("which").textContent = user
        ? "Type the user name and password that you would type sitting at it."
        : "Type the access code that was chosen when the host software was installed.";
    $("secret-label").textContent = user ? "Password" : "Computer Access Code";
    $("code-link").textContent = user ? "Use the access code instead" : "Use a user name instead";
}

function askAgain(error) {
    show("login");
    $("login-error").textContent = error;
    $("login-error").hidden = !error;
    $("secret").value = "";
    ($("user-row").hidden || $("user").value ? $("secret") : $("user")).focus();
}

function refuse(r) {
    show("refused");
    $("refused-title").textContent = r.code ? `${r.code}: ${r.title}` : r.title;
    $("refused-detail").textContent = r.detail;
    $("refused-remedy").textContent = r.remedy;
    $("offer").hidden = r.code !== held && r.code !== watchOnly;
    $("ask").hidden = r.code === watchOnly;
}

// closings say what has come of what the computer was to do at the end.
const closings = {
    "lock": {
        done: "Its screen is locked.", asked: "Its screen was told to lock, and does not say that it is locked.", failed: "Its screen could not be locked.",
        "": "It was to lock its screen, and has not said that it has.",
    },
    "log off": { done: "Its user is being logged off.", failed: "Its user could not be logged off.", "": "It was to log its user off, and has not said that it does." },
};

function end(since, refusal) {
    if (document.fullscreenElement) document.exitFullscreen();
    document.title = page.name;
    show("ended");
    const s = Math.round((Date.now() - since) / 1000);
    const parts = [[Math.floor(s / 3600), "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
    $("duration").textContent = parts.filter(([n, unit]) => n || unit === "s").map(p => p.join(" ")).join(" ");
    $("reason").textContent = refusal ? new Refused(refusal).message : bar.left ? "You ended it." : "The connection ended.";
    const closing = bar.closing || bar.state?.control && bar.state.at_end;
    $("unlocked").hidden = !bar.controlled || bar.state?.greeter || bar.outcome === "done";
    $("closing").textContent = closings[closing]?.[bar.outcome] ?? "";
    bar.left = bar.controlled = false;
}

const bar = new Bar($("bar"), {
    leave: async () => {
        if (run.back) { // nobody is there to end it with
            run.rfb?.disconnect();
            const { since } = run.session;
            run = null;
            end(since, null);
            return;
        }
        const ending = run;
        await bar.finish();
        if (!ending.ended) ending.rfb?.disconnect();
    },
    want: what => run.session.role === "watch" && what !== "watch" ? run.upgrade(what) : run.channel.say({ host: { want: what } }),
});

$("login-form").addEventListener("submit", e => {
    e.preventDefault();
    const secret = $("secret").value;
    $("secret").value = "";
    run.submit($("user-row").hidden ? "" : $("user").value, secret);
});
$("code-link").addEventListener("click", () => {
    askFor($("user-row").hidden);
    $("secret").focus();
});
$("trust").addEventListener("click", () => run.trust());
// Without a click of the first button alone these are links: to a new tab, and another log-in.
for (const [id, role] of [["look", "watch"], ["ask", "take"]]) {
    $(id).addEventListener("click", e => {
        if (e.ctrlKey || e.metaKey || e.shiftKey) return;
        e.preventDefault();
        run.as(role);
    });
}
$("try").addEventListener("click", () => run.as(page.role));
for (const b of document.querySelectorAll(".again")) b.addEventListener("click", () => start(null));
for (const done of ["keydown", "pointerdown", "pointermove", "wheel"]) {
    addEventListener(done, () => { if (run?.channel) run.channel.active = true; }, { capture: true, passive: true });
}
// A page that the browser has kept aside comes back without its connection.
addEventListener("pageshow", e => e.persisted && start(null));
start(null);
