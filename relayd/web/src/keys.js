// Keys that a browser or its machine keeps to itself, or that an on-screen keyboard does not have. Numbers are X's keysyms.
const named = {
    Ctrl: 0xffe3, Alt: 0xffe9, Super: 0xffeb, Del: 0xffff, Esc: 0xff1b, Tab: 0xff09, Print: 0xff61, Backspace: 0xff08,
    ...Object.fromEntries(Array.from({ length: 12 }, (_, n) => ["F" + (n + 1), 0xffbe + n])),
};
const functions = Array.from({ length: 12 }, (_, n) => "F" + (n + 1));

// combinations are what the menu offers, in groups: [group, [[text, value]…]].
export function combinations() {
    const plain = keys => keys.map(k => [k, k]);
    return [
        ["Combinations", plain(["Ctrl-Alt-Del", "Alt-Tab", "Super", "Print"])],
        ["Keys", plain(["Esc", "Tab", ...functions])],
        ["Consoles", plain(functions.map(f => "Ctrl-Alt-" + f))],
    ];
}

// sendAll presses the keys of a combination and lets them go.
export function sendAll(rfb, combination) {
    const keys = combination.split("-").map(name => named[name]);
    for (const k of keys) rfb.sendKey(k, null, true);
    for (const k of keys.reverse()) rfb.sendKey(k, null, false);
}

// keysymOf is the keysym of a character.
export function keysymOf(c) {
    switch (c) {
    case "\n": return 0xff0d;
    case "\b": return named.Backspace;
    case "\t": return named.Tab;
    }
    const point = c.codePointAt(0);
    return point < 0x100 ? point : 0x01000000 | point;
}
