// Refusals as the relay's catalogue words them, which the page carries along.
const page = document.getElementById("session").dataset;
const titles = JSON.parse(page.titles); // by number

// Refused is why there is no session: number, title, detail and remedy, as in the relay's catalogue.
export class Refused extends Error {
    constructor(refusal) {
        super(`${refusal.code}: ${refusal.detail}; ${refusal.remedy}`);
        this.refusal = refusal;
    }
}

// noRoute is the refusal of a relay or a computer that is not reached; detail says how far it came.
export const noRoute = detail => new Refused({ ...JSON.parse(page.noRoute), detail });

// refusalOf is the one that a computer gives as RFB's reason: "1326: detail; remedy".
export function refusalOf(reason) {
    const [, code, text] = /^(\d+): (.*)$/s.exec(reason) ?? [null, 0, reason];
    const [detail, remedy] = text.split(/; (?!.*; )/);
    return { code: Number(code), title: titles[code] ?? "Not let in", detail, remedy: remedy ?? "" };
}
