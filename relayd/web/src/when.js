// Times, in the language and the time zone of whoever reads them; without this they stand there in UTC.
const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function when(iso) {
    return time.format(new Date(iso));
}

for (const e of document.querySelectorAll("time[datetime]")) {
    e.textContent = when(e.dateTime);
    e.title = e.dateTime;
}
