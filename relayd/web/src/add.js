// Shows the computer that the line on the page has added, as soon as it is there.
const added = document.getElementById("added");
let before = null; // the computers that there were

added.textContent = "Waiting for the computer…";
const events = new EventSource("/api/hosts/events");
events.onmessage = event => {
    const own = JSON.parse(event.data).hosts.filter(c => c.owner === added.dataset.account);
    before ??= new Set(own.map(c => c.id));
    const came = own.find(c => !before.has(c.id) && c.state !== "offline");
    if (!came) return;
    events.close();
    const link = document.createElement("a");
    link.className = "button primary";
    link.href = `/computers/${came.id}/connect`;
    link.textContent = "Control";
    added.replaceChildren(`${came.name} is here. `, link);
};
