// Drives Chromium through relayd's pages, for tests in Go. The first line of its standard input is a JSON object: site (https://…), spki
// (of the relay's certificate, SHA-256 in base64), shots (folder for screenshots), record (every message of a WebSocket is kept in the
// file "frames" there), width, dark. Each further line is a list of steps, and each is answered by a line on descriptor 3:
// {"values": what the steps with "eval" gave, "failed": why not all have come true, "faults": errors of pages and breaches of their
// Content-Security-Policy}. A step has one or more of these, done in this order:
//
//	{"who": NAME, …}                whose browser: each has cookies and tabs of its own
//	{"phone": true, …}              which is a phone's: held upright, with a screen that is touched; at their first step
//	{"page": N, …}                  the tab that the step is for, 0 by default; a new one is opened when there is none yet
//	{"width": N, "dark": BOOL}      of the window from now on
//	{"go": PATH}                    opens a page of the site
//	{"back": true}                  as the button does
//	{"fill": {SELECTOR: TEXT}}      types into fields, and then Return in the last
//	{"choose": {SELECTOR: VALUE}}   in a list
//	{"mute": N}                     the tab's WebSockets pass on N messages of the relay from now on, and no more; before its first page
//	{"hold": END}                   requests of the tab for addresses that end so get no answer from now on; "": they do
//	{"later": MS}                   has the timers of such a tab pass over that time
//	{"forge": true}                 has the browser remember other keys of the computers than they have shown
//	{"code": TEXT}                  logs in to the computer with its access code, whatever it asks for first
//	{"login": {user, password}}     logs in to the computer as a user of it
//	{"tab": SELECTOR}               goes there by the Tab key alone; each stop on the way shows where it is
//	{"passkeys": BOOL}              the tab has a program that holds passkeys and knows its user from now on; false: it does not know them
//	{"press": [KEY…]}
//	{"click": SELECTOR}             with "how": "ctrl" or "middle", it opens the next tab
//	{"tap": SELECTOR}               with a finger; "place": {x, y} from its corner, in the middle by default
//	{"swipe": {from, to}}           with a finger, from one {x, y} of the page to another
//	{"touch": TEXT}                 types it by a phone's keyboard, of which a page sees no keys
//	{"see": TEXT}                   waits until the text is visible
//	{"gone": SELECTOR}              waits until nothing of it is visible
//	{"at": PATH}                    waits until the page has this address
//	{"type": TEXT}                  key by key, to the desktop; \n is Return
//	{"title": TEXT}                 waits for the title
//	{"eval": SCRIPT}                gives a value
//	{"axe": true}                   the page has no violation of WCAG AA
//	{"look": NAME}                  so in light on a desk and in dark on a phone, where nothing stands out to the side; with screenshots
//	{"shot": NAME}                  keeps a screenshot
//	{"close": true}                 closes the tab
//	{"leave": true}                 takes every tab of everybody away from the site
//
// It ends with its standard input.
import { appendFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const plan = JSON.parse((await lines.next()).value);
const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium", chromiumSandbox: false,
    args: ["--ignore-certificate-errors-spki-list=" + plan.spki, "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
});
const wide = { width: plan.width ?? 1200, height: 900 };
const phone = { width: 360, height: 740 };
let faults = [], failures = 0;
const people = new Map(); // their tabs, by name

async function person(name, small) {
    if (!people.has(name)) {
        const context = await browser.newContext({ colorScheme: plan.dark ? "dark" : "light", ...small ? { viewport: phone, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } : { viewport: wide } });
        context.setDefaultTimeout(plan.patience ?? 30000);
        await context.addInitScript({ path: new URL("node_modules/axe-core/axe.min.js", import.meta.url).pathname });
        // A video decoder that never answers: no page may wait for it.
        await context.addInitScript(() => { if (window.VideoDecoder) VideoDecoder.prototype.flush = () => new Promise(() => {}) });
        // A session's steps are gone before a test can look; so they are noted.
        await context.addInitScript(() => {
            document.addEventListener("securitypolicyviolation", e => console.error("Content Security Policy:", e.violatedDirective, e.blockedURI));
            document.addEventListener("DOMContentLoaded", () => {
                const step = document.getElementById("step");
                window.steps = step ? [step.textContent] : [];
                if (step) new MutationObserver(() => window.steps.push(step.textContent)).observe(step, { childList: true, characterData: true, subtree: true });
            });
        });
        people.set(name, { context, pages: [] });
    }
    return people.get(name);
}

function watched(page) {
    page.on("pageerror", e => faults.push("page error: " + e.message));
    page.on("console", m => /Content Security Policy/.test(m.text()) && faults.push(m.text()));
    if (plan.record) {
        page.on("websocket", s => {
            for (const way of ["framesent", "framereceived"]) s.on(way, ({ payload }) => appendFileSync(join(plan.shots, "frames"), payload));
        });
    }
    return page;
}

async function tab({ who = "", page = 0, phone = false }) {
    const { context, pages } = await person(who, phone);
    while (pages.length <= page) pages.push(watched(await context.newPage()));
    if (pages.length > 1 && !pages[page].isClosed()) await pages[page].bringToFront();
    return pages[page];
}

async function axe(page, where) {
    const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
    if (violations.length) throw new Error(`axe, ${where}: ${violations.map(v => `${v.id}: ${v.nodes.map(n => n.html).join(" ")}`).join("\n")}`);
}

async function look(page, name) {
    const was = page.viewportSize();
    for (const [colorScheme, size] of [["light", wide], ["dark", phone]]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize(size);
        await page.screenshot({ path: join(plan.shots, `${name}-${colorScheme}.png`), fullPage: true });
        await axe(page, `${name} ${colorScheme}`);
        const out = await page.evaluate(() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return "";
            return [...document.body.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 120)).join("\n");
        });
        if (out) throw new Error(`${name} is wider than ${size.width} pixels: ${out}`);
    }
    await page.emulateMedia({ colorScheme: plan.dark ? "dark" : "light" });
    await page.setViewportSize(was);
}

// toTab goes from one thing that has the focus to the next, until it is at the one that is meant.
async function toTab(page, selector) {
    await page.locator(selector).first().waitFor();
    for (let n = 0; n < 80; n++) {
        const [there, shown, what] = await page.evaluate(s => {
            const e = document.activeElement;
            const style = getComputedStyle(e), box = e.getBoundingClientRect();
            const marked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 && e.matches(":focus-visible");
            return [e.matches(s), e === document.body || marked && box.width > 0 && box.bottom > 0 && box.top < innerHeight, e.outerHTML.slice(0, 120)];
        }, selector);
        if (n > 0 && !shown) throw new Error("the focus does not show at " + what);
        if (there) return;
        await page.keyboard.press("Tab");
    }
    throw new Error("the Tab key does not lead to " + selector);
}

const keyrings = new Map(); // by tab

// passkeys has a virtual authenticator of Chromium's answer in a tab; known: it has recognized its user.
async function passkeys(page, known) {
    let ring = keyrings.get(page);
    if (!ring) {
        const client = await page.context().newCDPSession(page);
        await client.send("WebAuthn.enable");
        const { authenticatorId } = await client.send("WebAuthn.addVirtualAuthenticator", { options: {
            protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, automaticPresenceSimulation: true,
        } });
        keyrings.set(page, ring = { client, authenticatorId });
    }
    await ring.client.send("WebAuthn.setUserVerified", { authenticatorId: ring.authenticatorId, isUserVerified: known });
}

// compose types as a phone's keyboard does: a word grows, each time as a whole, until it is there.
async function compose(page, text) {
    const client = await page.context().newCDPSession(page);
    for (let n = 1; n < text.length; n++) await client.send("Input.imeSetComposition", { text: text.slice(0, n), selectionStart: n, selectionEnd: n });
    await client.send("Input.insertText", { text });
    await client.detach();
}

async function swipe(page, { from, to }) {
    const client = await page.context().newCDPSession(page);
    const touch = (type, ...touchPoints) => client.send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", from);
    for (const part of [.25, .5, .75, 1]) await touch("touchMove", { x: from.x + part * (to.x - from.x), y: from.y + part * (to.y - from.y) });
    await touch("touchEnd");
    await client.detach();
}

const ears = new Map(); // by tab: how many messages its pages still hear

// mute has a tab's WebSockets pass on that many messages more of the relay. Its timers can be made to pass over time from then on.
async function mute(page, messages) {
    if (!ears.has(page)) {
        await page.clock.install();
        await page.routeWebSocket(/\/rfb$/, socket => {
            const relay = socket.connectToServer();
            relay.onMessage(m => {
                const left = ears.get(page);
                ears.set(page, left - 1);
                if (left > 0) socket.send(m);
            });
        });
    }
    ears.set(page, messages);
}

async function step(s) {
    const page = await tab(s);
    let value;
    if (s.mute !== undefined) await mute(page, s.mute);
    if (s.hold !== undefined) {
        await page.unrouteAll();
        if (s.hold) await page.route(url => url.pathname.endsWith(s.hold), () => {});
    }
    if (s.later) await page.clock.fastForward(s.later);
    if (s.width || s.dark !== undefined) {
        if (s.width) await page.setViewportSize({ width: s.width, height: s.width < 600 ? phone.height : wide.height });
        if (s.dark !== undefined) await page.emulateMedia({ colorScheme: s.dark ? "dark" : "light" });
    }
    if (s.passkeys !== undefined) await passkeys(page, s.passkeys);
    if (s.go) {
        await page.goto(plan.site + s.go).catch(e => { // which Chromium says when it sees a network that is only just made
            if (!e.message.includes("ERR_NETWORK_CHANGED")) throw e;
            return page.goto(plan.site + s.go);
        });
    }
    if (s.back) await page.goBack();
    if (s.fill) {
        for (const [field, text] of Object.entries(s.fill)) await page.fill(field, text);
        await page.press(Object.keys(s.fill).at(-1), "Enter");
    }
    for (const [list, choice] of Object.entries(s.choose ?? {})) await page.selectOption(list, choice);
    if (s.forge) {
        await page.evaluate(() => Object.keys(localStorage).forEach(k => localStorage.setItem(k, JSON.stringify({ pin: "00" }))));
    }
    if (s.code) {
        await page.locator("#login").waitFor();
        if (await page.isVisible("#user-row")) await page.click("#code-link");
        await page.fill("#secret", s.code);
        await page.press("#secret", "Enter");
    }
    if (s.login) {
        await page.locator("#login").waitFor();
        if (!await page.isVisible("#user-row")) await page.click("#code-link");
        await page.fill("#user", s.login.user);
        await page.fill("#secret", s.login.password);
        await page.press("#secret", "Enter");
    }
    if (s.tab) await toTab(page, s.tab);
    for (const key of s.press ?? []) await page.keyboard.press(key);
    if (s.click && s.how) {
        const { context, pages } = await person(s.who ?? "");
        const opened = context.waitForEvent("page");
        await page.click(s.click, s.how === "ctrl" ? { modifiers: ["Control"] } : { button: "middle" });
        pages.push(watched(await opened));
    } else if (s.click) {
        await page.click(s.click);
    }
    if (s.tap) await page.tap(s.tap, { position: s.place });
    if (s.swipe) await swipe(page, s.swipe);
    if (s.touch) await compose(page, s.touch);
    if (s.see) await page.getByText(s.see).filter({ visible: true }).first().waitFor();
    if (s.gone) await page.waitForFunction(q => [...document.querySelectorAll(q)].every(e => !e.checkVisibility()), s.gone);
    if (s.at) await page.waitForURL(plan.site + s.at);
    if (s.type) for (const c of s.type) await page.keyboard.press(c === "\n" ? "Enter" : c, { delay: 20 });
    if (s.title) await page.waitForFunction(t => document.title === t, s.title);
    if (s.eval) value = await page.evaluate(s.eval) ?? null;
    if (s.axe) await axe(page, page.url());
    if (s.look) await look(page, s.look);
    if (s.shot) await page.screenshot({ path: join(plan.shots, s.shot + ".png") });
    if (s.close) await page.close();
    if (s.leave) for (const p of people.values()) for (const other of p.pages) if (!other.isClosed()) await other.goto("about:blank");
    return value;
}

for await (const line of lines) {
    const values = [];
    let failed = "";
    for (const [n, s] of JSON.parse(line).entries()) {
        try {
            const value = await step(s);
            if (value !== undefined) values.push(value);
        } catch (e) {
            const page = await tab(s);
            await page.screenshot({ path: join(plan.shots, `failed-${++failures}.png`) }).catch(() => {});
            failed = `step ${n}, ${JSON.stringify(s)}: ${e.message}\n${page.url()}\n${await page.innerText("body").catch(() => "")}`;
            break;
        }
    }
    writeSync(3, JSON.stringify({ values, failed, faults }) + "\n");
    faults = [];
}
await browser.close();
