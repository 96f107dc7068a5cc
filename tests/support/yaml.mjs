/* yaml.mjs - writes a configuration as the YAML subset that the services read.
 *
 * Only what config.yaml needs: maps, lists of scalars, lists of maps. Strings are quoted as in
 * JSON, which YAML reads alike.
 */

function scalar(value) {
    return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

function isMap(value) {
    return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function item(map, pad) {
    const lines = toYaml(map, pad + '  ').trimEnd();
    return `${pad}- ${lines.trimStart()}\n`;
}

/** The text of a map. */
export function toYaml(map, pad = '') {
    let out = '';
    for (const [key, value] of Object.entries(map)) {
        if (value === undefined)
            continue;
        if (isMap(value))
            out += `${pad}${key}:\n${toYaml(value, pad + '  ')}`;
        else if (Array.isArray(value) && value.some(isMap))
            out += `${pad}${key}:\n${value.map((v) => item(v, pad + '  ')).join('')}`;
        else if (Array.isArray(value))
            out += `${pad}${key}: [${value.map(scalar).join(', ')}]\n`;
        else
            out += `${pad}${key}: ${scalar(value)}\n`;
    }
    return out;
}

/** Lays the overrides over the defaults, map by map. */
export function merge(base, over) {
    const out = { ...base };
    for (const [key, value] of Object.entries(over ?? {}))
        out[key] = isMap(value) && isMap(base[key]) ? merge(base[key], value) : value;
    return out;
}
