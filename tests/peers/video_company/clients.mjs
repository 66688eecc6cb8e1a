// The video company's Node clients and its uploader, unmodified, against our endpoint.
//
// HOST and SECURE_HOST (with TLS, as the uploader knows no other), API_KEY and NO_SCOPES_API_KEY tell where.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const require = createRequire(resolve(process.env.TESSERA_PEERS_DIR, 'package.json'));
const { HOST, SECURE_HOST, API_KEY, NO_SCOPES_API_KEY } = process.env;

// The package offers a module and a CommonJS half.
const load = (name) => {
  const loaded = require(name);
  return loaded.default ?? loaded;
};
const Newest = load('@api.video/nodejs-client');
const Older = load('video-company-older-client');

for (const [name, Client] of [['newest', Newest], ['older', Older]]) {
  const client = new Client({ apiKey: API_KEY, baseUri: HOST });
  const token = await client.getAccessToken();
  assert.equal(token.tokenType ?? token.token_type, 'Bearer', name);
  assert.ok((token.accessToken ?? token.access_token).startsWith('v4.public.'), name);
  const page = await client.videos.list();
  assert.deepEqual(page.data, [], name);
  await assert.rejects(new Client({ apiKey: 'tsk_production_no', baseUri: HOST }).getAccessToken(), name);
  // Denied by policy: an answer, and no endless signing in.
  await assert.rejects(new Client({ apiKey: NO_SCOPES_API_KEY, baseUri: HOST }).getAccessToken(), name);
}

// The older one signs in again when its token is refused, and repeats the call.
const older = new Older({ apiKey: API_KEY, baseUri: HOST });
await older.getAccessToken();
older.httpClient.accessToken = { tokenType: 'Bearer', accessToken: 'v4.public.stale' };
assert.deepEqual((await older.videos.list()).data, []);
assert.notEqual(older.httpClient.accessToken.accessToken, 'v4.public.stale');

// The uploader runs in browsers: this is as much of one as it asks for.
class Request {
  upload = {};
  headers = {};
  readyState = 0;
  status = 0;
  open(method, url) {
    Object.assign(this, { method, url });
  }
  setRequestHeader(name, value) {
    this.headers[name] = value;
  }
  send(body) {
    fetch(this.url, { method: this.method, headers: this.headers, body })
      .then(async (answer) => {
        Object.assign(this, { status: answer.status, response: await answer.text(), readyState: 4 });
        this.onreadystatechange?.();
        this.onload?.();
      })
      .catch((error) => this.onerror?.(error));
  }
}
globalThis.window = globalThis;
globalThis.XMLHttpRequest = Request;
const { VideoUploader } = require('@api.video/video-uploader');

const signIn = await fetch(`${HOST}/auth/api-key`, { method: 'POST', body: JSON.stringify({ apiKey: API_KEY }) });
const tokens = await signIn.json();
const uploader = (accessToken, refreshToken) =>
  new VideoUploader({
    file: new File(['moving pictures'], 'film.mp4'),
    videoId: 'film',
    apiHost: SECURE_HOST,
    retries: 0,
    accessToken,
    refreshToken,
  });
assert.equal((await uploader(tokens.access_token).upload()).videoId, 'film');
// Its token is over: it renews it after the 401, and goes on.
const renewed = await uploader('v4.public.stale', tokens.refresh_token).upload();
assert.equal(renewed.videoId, 'film');
// The successor was taken, so the spent token gives the same one again: a lost answer ends nobody's session.
assert.equal((await uploader('v4.public.stale', tokens.refresh_token).upload()).videoId, 'film');
await assert.rejects(uploader('v4.public.stale', 'tsr_wrong').upload());
