/* schema.mjs - is this an object that Kubernetes' API knows, field by field?
 *
 * kubernetes-models brings what Kubernetes' OpenAPI says as functions, which let unknown fields pass. So each
 * object is given to them through proxies that note which fields were asked for: what a function never
 * asked for is a field that its schema does not have.
 */
import path from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
export const parseAll = (text) => require('yaml').parseAllDocuments(text, { maxAliasCount: 0 }).map((d) => d.toJS()).filter(Boolean);

function watched(value, at, seen) {
    if (value === null || typeof value !== 'object')
        return value;
    return new Proxy(value, {
        get(target, key) {
            if (typeof key === 'string' && Object.hasOwn(target, key))
                seen.add(`${at}/${key}`);
            return watched(target[key], `${at}/${String(key)}`, seen);
        },
    });
}

function unknownFields(value, at, seen, out) {
    if (value === null || typeof value !== 'object')
        return;
    for (const key of Object.keys(value)) {
        if (!seen.has(`${at}/${key}`))
            out.push(`${at}/${key}: unknown field`);
        else
            unknownFields(value[key], `${at}/${key}`, seen, out);
    }
}

/** What is wrong with an object, as lines; none: nothing. */
export function problemsOf(object) {
    const [group, version] = object.apiVersion?.includes('/') ? object.apiVersion.split('/') : ['', object.apiVersion];
    const models = group === 'monitoring.coreos.com' ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models';
    let Model;
    try {
        Model = require(path.posix.join(models, group, version))[object.kind];
    } catch {
        Model = undefined;
    }
    if (Model === undefined)
        return [`${object.apiVersion} ${object.kind}: Kubernetes knows no such kind`];
    const seen = new Set();
    const out = [];
    try {
        Model.prototype.validate.call(watched(object, '', seen));
    } catch (e) {
        out.push(e.message);
    }
    unknownFields(object, '', seen, out);
    return out;
}

/** Puts an unknown field into every map of the object, one at a time; gives the places that nobody noticed. */
export function unnoticedPlaces(object) {
    const missed = [];
    const walk = (value, at) => {
        if (value === null || typeof value !== 'object')
            return;
        if (!Array.isArray(value)) {
            value.llmbNoSuchField = 'x';
            if (problemsOf(object).length === 0)
                missed.push(at);
            delete value.llmbNoSuchField;
        }
        for (const key of Object.keys(value))
            walk(value[key], `${at}/${key}`);
    };
    walk(object, '');
    return missed;
}
