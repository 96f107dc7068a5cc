/* Every replica of everything is replaced, one after the other, while people chat: nobody notices. */
import { havePostgres } from '../support/postgres.mjs';
import { roll, rollingStack } from '../support/rolling.mjs';
import { demand, story } from '../support/story.mjs';

story('a rolling restart of every replica of everything under load: no error, no byte lost', async (t) => {
    const s = await rollingStack(t);
    await s.startAll();
    await roll(s, async (name) => {
        await s.drain(name, 15_000);
        await s.bring(name);
    });
}, { skip: demand(!havePostgres && 'needs PostgreSQL'), deadline: 150_000 });
