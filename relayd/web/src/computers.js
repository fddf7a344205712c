// The list of computers, kept true without reload by what the relay tells.
import { when } from "./when.js";

const list = document.getElementById("list");
const blank = document.getElementById("row").content.firstElementChild;
const asks = document.getElementById("asks");
const blankAsk = document.getElementById("ask").content.firstElementChild;
const section = document.getElementById("section").content.firstElementChild;
const search = document.getElementById("search");
const none = document.getElementById("none");
const stale = document.getElementById("stale");
const silenceTime = 5000; // ms without a stream after which the list may be wrong; the relay ends one now and then, and browsers ask again after 3 s

// text is what a person reads of the state; the sign before it is the style sheet's.
function text(c) {
    switch (c.state) {
    case "online": return "Online";
    case "in use": return "In use";
    case "asleep": return `Asleep, since ${when(c.last_seen)}`;
    case "rebooting": return "Rebooting…";
    case "not accessible": return `Not accessible: ${c.barred === "doubled" ? "two machines come with its key" : "its hostd is of another version"}`;
    }
    const how = { stopped: "its host service was stopped", "shut down": "shut down" }[c.away] ?? "last seen";
    return c.last_seen ? `Offline, ${how} ${when(c.last_seen)}` : "Offline, last seen never";
}

function joined(c) {
    const all = c.joined ?? [];
    const what = role => role === "watch" ? "watching" : "in control, or coming to it";
    return all.map(j => `${j.account}, ${what(j.role)}, since ${when(j.since)}`).join("; ");
}

function fill(row, c) {
    const set = (name, text) => { const e = row.querySelector(name); if (e.textContent !== text) e.textContent = text; };
    const at = `/computers/${c.id}`;
    row.dataset.id = c.id;
    row.dataset.team = c.group ?? "";
    const star = row.querySelector(".star");
    star.action = at + "/favourite";
    star.elements.favourite.value = c.favourite ? "" : "yes";
    const button = star.querySelector("button");
    button.ariaLabel = `Favourite: ${c.name}`;
    button.ariaPressed = String(Boolean(c.favourite));
    set(".star button", c.favourite ? "★" : "☆");
    set(".name", c.name);
    row.querySelector(".name").href = at + (c.right === "watch" ? "/connect?role=watch" : "/connect");
    row.querySelector(".watch").href = at + "/connect?role=watch";
    row.querySelector(".about").href = at;
    set(".owner", c.owner === list.dataset.account ? "" : `of ${c.owner}`);
    set(".state", text(c));
    row.querySelector(".state").dataset.state = c.state;
    set(".joined", joined(c));
}

// showAsks are the sign-ins that wait to be approved.
function showAsks(all) {
    const shown = new Map([...asks.children].map(form => [form.dataset.id, form]));
    for (const a of all) {
        if (shown.delete(a.id)) continue;
        const form = blankAsk.cloneNode(true);
        form.dataset.id = form.elements.id.value = a.id;
        form.querySelector(".source").textContent = a.source;
        asks.append(form);
    }
    for (const form of shown.values()) form.remove();
}

function show({ hosts, signins }) {
    showAsks(signins ?? []);
    const old = new Map([...list.children].map(e => [e.dataset.id ?? e.dataset.key, e]));
    const marked = hosts.some(c => c.favourite || c.group);
    let n = 0, last = "";
    const place = (key, template) => {
        const e = old.get(key) ?? template.cloneNode(true);
        old.delete(key);
        if (list.children[n] !== e) list.insertBefore(e, list.children[n] ?? null);
        n++;
        return e;
    };
    for (const c of hosts) {
        const [key, name] = c.favourite ? ["favourites", "Favourites"] : c.group ? [`group ${c.group}`, c.group] : ["others", "Others"];
        if (marked && key !== last) {
            const e = place(key, section);
            e.dataset.key = last = key;
            e.querySelector("h2").textContent = name;
        }
        fill(place(c.id, blank), c);
    }
    for (const e of old.values()) e.remove();
    none.hidden = hosts.length > 0;
    narrow();
}

// narrow hides what does not have all words of the search.
function narrow() {
    const words = search.value.toLowerCase().split(/\s+/);
    let heading = null;
    for (const e of list.children) {
        if (e.dataset.key) {
            heading = e;
            heading.hidden = true;
            continue;
        }
        const have = `${e.querySelector("div").textContent} ${e.dataset.team}`.toLowerCase();
        e.hidden = !words.every(word => have.includes(word));
        if (heading && !e.hidden) heading.hidden = false;
    }
}

const find = document.getElementById("find");
find.querySelector("button").hidden = true;
find.addEventListener("submit", event => event.preventDefault());
search.addEventListener("input", narrow);
const events = new EventSource("/api/hosts/events");
events.onmessage = event => show(JSON.parse(event.data));
let silence = 0; // a timer while there is no stream
events.onopen = () => {
    clearTimeout(silence);
    silence = 0;
    stale.hidden = true;
};
// An answer that is no stream ends it for good: not signed in any more, most likely.
events.onerror = () => {
    silence ||= setTimeout(() => { stale.hidden = false; }, silenceTime);
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000);
};
