// Lets the venue's own client subscribe to everything that is still served, and prints each message as a line of
// JSON.  Usage: node driver.js <url>; ends when its standard input does.
"use strict";

const { RealTimeDataClient, ConnectionStatus } = require("@polymarket/real-time-data-client");

// The client reports frames that hold no message, such as refusals, on the console: not to be mixed with ours.
console.log = (...words) => console.error(...words);

const client = new RealTimeDataClient({
    host: process.argv[2],
    onConnect: (connected) => {
        connected.subscribe({
            subscriptions: [
                { topic: "activity", type: "*" },
                { topic: "comments", type: "*" },
            ],
        });
    },
    onMessage: (_, message) => process.stdout.write(JSON.stringify(message) + "\n"),
    onStatusChange: (status) => {
        if (status === ConnectionStatus.CONNECTED) process.stderr.write("connected\n");
    },
});
client.connect();
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
