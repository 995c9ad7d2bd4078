// Subscribes by node-redis to several channels of which one is refused: node channels.mjs MODULES ADDRESS KNOWN REFUSED ERROR COMMAND...
// MODULES is the directory in which redis lies; ERROR begins the error; COMMAND brings a message to KNOWN. Prints one object; what
// failed is for the reader to judge.
import { createRequire } from 'node:module';

const [modules, address, known, refused, error, ...command] = process.argv.slice(2);
const { createClient } = createRequire(modules + '/')('redis');

const failures = [];
let checks = 0;
function that(name, holds, found) {
  checks += 1;
  if (!holds) failures.push(`${name}: ${JSON.stringify(found)}`);
}
const refusal = (call) => call.then(() => 'not refused', (reason) => reason.message);
process.on('uncaughtException', (reason) => failures.push(`uncaught: ${reason.stack}`));

for (const RESP of [2, 3]) {
  const socket = { path: address, reconnectStrategy: false };
  const connect = async () => {
    const client = createClient({ socket, RESP });
    client.on('error', (reason) => failures.push(`connection: ${reason.message}`));
    return client.connect();
  };
  const [client, publisher] = [await connect(), await connect()];
  const messages = [];
  let arrived;
  const arrival = new Promise((resolve) => { arrived = resolve; });
  const listener = (message, channel) => { messages.push(channel); arrived(); };
  for (const channels of [[refused, known], [known, refused], [known, refused, known]]) {
    const found = await refusal(client.subscribe(channels, listener));
    that(`RESP${RESP} SUBSCRIBE ${channels}`, found.startsWith(error), found);
  }
  // The connection is in step with its answers, and subscribed to nothing.
  if (RESP === 3) that('RESP3 PING', (await client.ping()) === 'PONG');
  await client.subscribe(known, listener);
  await publisher.sendCommand(command);
  await arrival;
  that(`RESP${RESP} a message`, messages.join() === known, messages);
  await client.unsubscribe(known);
  await client.close();
  await publisher.close();
}

console.log(JSON.stringify({ checks, failures }));
