// What clients in Node say, by ioredis: node talk.mjs MODULES ADDRESS STREAM EVENTS [PASSWORD]
// MODULES is the directory in which ioredis lies. Prints one object; what failed is for the reader to judge.
import { createRequire } from 'node:module';

const [modules, address, stream, events, password] = process.argv.slice(2);
const Redis = createRequire(modules + '/')('ioredis');

const failures = [];
let checks = 0;
function that(name, holds, found) {
  checks += 1;
  if (!holds) failures.push(`${name}: ${JSON.stringify(found)}`);
}
const equal = (name, found, wanted) =>
  that(name, JSON.stringify(found) === JSON.stringify(wanted), { found, wanted });

// A retry would publish twice, and then no two counts could agree.
const once = { password, retryStrategy: null, maxRetriesPerRequest: 0, commandTimeout: 20_000, autoResendUnfulfilledCommands: false };
const place = address.includes('/') ? { path: address } : { host: address.replace(/:\d+$/, ''), port: Number(address.match(/:(\d+)$/)[1]) };
const connect = () => {
  const client = new Redis({ ...place, ...once, connectionName: 'node' });
  client.on('error', (error) => failures.push(`connection: ${error.message}`));
  return client;
};
const refusal = (call) => call.then((found) => `not refused: ${found}`, (error) => error.message);
const numbers = (id) => id.split('-').map(BigInt);
const increases = (ids) => ids.every((id, at) => {
  if (at === 0) return true;
  const [a, b] = [numbers(ids[at - 1]), numbers(id)];
  return b[0] > a[0] || (b[0] === a[0] && b[1] > a[1]);
});

const client = connect();
equal('PING', await client.ping(), 'PONG');
equal('PING word', await client.ping('word'), 'word');
equal('ECHO', await client.echo('größer \r\n'), 'größer \r\n');
equal('SELECT 0', await client.select(0), 'OK');
equal('CLIENT GETNAME', await client.client('GETNAME'), 'node');
equal('CLIENT SETNAME', await client.client('SETNAME', 'other'), 'OK');
that('CLIENT ID', (await client.client('ID')) > 0);
that('CLIENT LIST', (await client.client('LIST')).includes('name=other'));
that('CLIENT INFO', (await client.client('INFO')).includes('name=other'));
that('INFO', (await client.info()).includes('redis_version:'));
that('COMMAND', (await client.command()).some((entry) => entry[0] === 'xadd'));
that('CONFIG GET', Array.isArray(await client.config('GET', 'maxclients')));
that('an unknown command', /^ERR unknown command .nosuch/i.test(await refusal(client.call('NOSUCH', 'a'))));
that('too few arguments', /^ERR wrong number of arguments for 'echo'/.test(await refusal(client.call('ECHO'))));

let accepted = 0;
const ids = [];
for (let sent = 0; sent < Number(events); ) {
  const pipeline = client.pipeline();
  for (const end = Math.min(sent + 500, Number(events)); sent < end; sent += 1) {
    pipeline.xadd(stream, '*', 'n', sent, 'text', 'x'.repeat(24));
  }
  for (const [error, id] of await pipeline.exec()) {
    if (error) failures.push(`XADD: ${error.message}`);
    else ids.push(id);
  }
}
// Not by one pipeline, but as a service does it: many at once.
ids.push(...(await Promise.all(Array.from({ length: 200 }, (_, n) => client.xadd(stream, '*', 'n', n)))));
const transaction = client.multi();
for (let n = 0; n < 20; n += 1) transaction.xadd(stream, '*', 'n', n);
for (const [error, id] of await transaction.exec()) {
  if (error) failures.push(`XADD in a transaction: ${error.message}`);
  else ids.push(id);
}
accepted += ids.length;
that('ids have their form', ids.every((id) => /^\d+-\d+$/.test(id)), ids.slice(0, 3));
that('ids increase', increases(ids));
that('XLEN', Number.isInteger(await client.xlen(stream)));
const told = await client.xinfo('STREAM', stream);
equal('XINFO STREAM tells the last id', told[told.indexOf('last-generated-id') + 1], ids.at(-1));

const listener = connect();
equal('SUBSCRIBE', await listener.subscribe('stream:' + stream), 1);
equal('PSUBSCRIBE', await listener.psubscribe('str*m:' + stream), 2);
// Under RESP2 it is a list, whose first word is the answer.
equal('PING of a subscriber', [await listener.ping()].flat()[0].toUpperCase(), 'PONG');
await listener.unsubscribe('stream:' + stream);
equal('nothing is left', await listener.punsubscribe(), 0);
equal('QUIT', await client.quit(), 'OK');
equal('QUIT of a subscriber', await listener.quit(), 'OK');

console.log(JSON.stringify({ checks, failures, accepted }));
