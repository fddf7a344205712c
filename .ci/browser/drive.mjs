// Drives Chromium through relayd's pages, for tests in Go. Reads one JSON object from standard input: site (https://…), spki (of the
// relay's certificate, SHA-256 in base64), shots (folder for screenshots), steps: a list of
//
//	{"page": N, …}                  the tab that the step is for, 0 by default; a new one is opened when there is none yet
//	{"go": PATH}                    opens a page of the site
//	{"fill": {SELECTOR: TEXT}}      types into fields, and then Return in the last
//	{"click": SELECTOR}
//	{"see": TEXT}                   waits until the text is visible
//	{"type": TEXT}                  key by key, to the desktop; \n is Return
//	{"title": TEXT}                 waits for the title
//	{"axe": true}                   the page has no violation of WCAG AA
//	{"shot": NAME}                  keeps a screenshot
//	{"code": TEXT}                  logs in to the computer with its access code, whatever it asks for first
//	{"forge": true}                 has the browser remember other keys of the computers than they have shown
//	{"close": true}                 closes the tab
//
// It ends with 0 when every step has come true, and no page has thrown an error or broken its Content-Security-Policy.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const plan = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium", chromiumSandbox: false,
    args: ["--ignore-certificate-errors-spki-list=" + plan.spki, "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
});
const context = await browser.newContext({ colorScheme: plan.dark ? "dark" : "light", viewport: { width: plan.width ?? 1200, height: 900 } });
context.setDefaultTimeout(plan.patience ?? 60000);
await context.addInitScript({ path: new URL("node_modules/axe-core/axe.min.js", import.meta.url).pathname });
const faults = [];
const pages = [];

async function tab(n) {
    while (pages.length <= n) {
        const page = await context.newPage();
        page.on("pageerror", e => faults.push("page error: " + e.message));
        page.on("console", m => /Content Security Policy/.test(m.text()) && faults.push(m.text()));
        pages.push(page);
    }
    return pages[n];
}

async function step(s) {
    const page = await tab(s.page ?? 0);
    if (pages.length > 1) await page.bringToFront();
    if (s.go) await page.goto(plan.site + s.go);
    if (s.fill) {
        for (const [field, text] of Object.entries(s.fill)) await page.fill(field, text);
        await page.press(Object.keys(s.fill).at(-1), "Enter");
    }
    if (s.forge) {
        await page.evaluate(() => Object.keys(localStorage).forEach(k => localStorage.setItem(k, JSON.stringify({ pin: "00" }))));
    }
    if (s.code) {
        await page.locator("#login").waitFor();
        if (await page.isVisible("#user-row")) await page.click("#code-link");
        await page.fill("#secret", s.code);
        await page.press("#secret", "Enter");
    }
    if (s.click) await page.click(s.click);
    if (s.see) await page.getByText(s.see).filter({ visible: true }).first().waitFor();
    if (s.type) for (const c of s.type) await page.keyboard.press(c === "\n" ? "Enter" : c, { delay: 20 });
    if (s.title) await page.waitForFunction(t => document.title === t, s.title);
    if (s.axe) {
        const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
        for (const v of violations) throw new Error(`axe: ${v.id}: ${v.nodes.map(n => n.html).join(" ")}`);
    }
    if (s.shot) await page.screenshot({ path: join(plan.shots, s.shot + ".png") });
    if (s.close) await page.close();
}

let failed = null;
for (const [n, s] of plan.steps.entries()) {
    try {
        await step(s);
    } catch (e) {
        const page = await tab(s.page ?? 0);
        await page.screenshot({ path: join(plan.shots, "failed.png") }).catch(() => {});
        failed = `step ${n}, ${JSON.stringify(s)}: ${e.message}\n${await page.innerText("body").catch(() => "")}`;
        break;
    }
}
await browser.close();
for (const f of [failed, ...faults]) if (f) process.stderr.write(f + "\n");
process.exit(failed || faults.length ? 1 : 0);
