/* mutations.mjs - one thing made wrong at a time, and the check that must see it: the proof that each can fail. */

const find = (objects, kind, name) => objects.find((o) => o.kind === kind && (name === undefined || o.metadata.name.startsWith(name)));
const pod = (o, name) => find(o, 'Deployment', name).spec.template.spec;
const box = (o, name) => pod(o, name).containers[0];
const env = (o, name, variable) => box(o, name).env.find((e) => e.name === variable);
const policy = (o, name) => find(o, 'NetworkPolicy', name).spec;

/** [overlay, check, what is made wrong]. */
export const MUTATIONS = [
    ['dev', 'everyObjectIsKnown', (o) => { pod(o, 'gateway').terminationGracePeriod = 1; }],
    ['dev', 'everyObjectIsKnown', (o) => { box(o, 'gateway').resources.limits.memory = 'much'; }],
    ['dev', 'everyObjectIsKnown', (o) => { find(o, 'Service').apiVersion = 'v7'; }],
    ['dev', 'containersAreWhole', (o) => { delete box(o, 'llm-svc').resources.limits.cpu; }],
    ['prod', 'containersAreWhole', (o) => { delete box(o, 'redis').livenessProbe; }],
    ['dev', 'containersAreWhole', (o) => { box(o, 'auth-svc').readinessProbe.httpGet.path = '/healthz'; }],
    ['dev', 'podsAreRestricted', (o) => { box(o, 'gateway').securityContext.readOnlyRootFilesystem = false; }],
    ['dev', 'podsAreRestricted', (o) => { pod(o, 'gateway').securityContext.runAsUser = 0; }],
    ['dev', 'podsAreRestricted', (o) => { box(o, 'gateway').securityContext.capabilities.add = ['NET_RAW']; }],
    ['dev', 'podsAreRestricted', (o) => { delete pod(o, 'convo-svc').securityContext.seccompProfile; }],
    ['dev', 'podsAreRestricted', (o) => { delete pod(o, 'convo-svc').automountServiceAccountToken; }],
    ['dev', 'podsAreRestricted', (o) => { pod(o, 'auth-svc').volumes.push({ name: 'x', hostPath: { path: '/' } }); }],
    ['dev', 'podsAreRestricted', (o) => { delete find(o, 'Namespace').metadata.labels['pod-security.kubernetes.io/enforce']; }],
    ['dev', 'servicesSelect', (o) => { find(o, 'Service', 'llm-svc').spec.selector['app.kubernetes.io/component'] = 'llm'; }],
    ['dev', 'servicesSelect', (o) => { find(o, 'Service', 'convo-svc').spec.publishNotReadyAddresses = false; }],
    ['dev', 'servicesSelect', (o) => { find(o, 'Service', 'gateway').spec.ports[0].targetPort = 'web'; }],
    ['dev', 'namedPortsExist', (o) => { box(o, 'gateway').ports = box(o, 'gateway').ports.filter((p) => p.name !== 'admin'); }],
    ['dev', 'namedPortsExist', (o) => { find(o, 'Ingress').spec.rules[0].http.paths[0].backend.service.port.name = 'web'; }],
    ['dev', 'namedPortsExist', (o) => { policy(o, 'llm-svc').ingress[0].ports[1].port = 'pub'; }],
    ['dev', 'keysExist', (o) => { pod(o, 'gateway').volumes[0].configMap.name = 'config'; }],
    ['dev', 'keysExist', (o) => { delete find(o, 'Secret').data.zhipu_api_key; }],
    ['prod', 'keysExist', (o) => { env(o, 'auth-svc', 'LLMB_JWT_SECRET_FILE').value = '/run/secrets/jwt/secret'; }],
    ['dev', 'keysExist', (o) => { env(o, 'convo-svc', 'LLMB_SQLITE_PATH').value = '/data/sub/x.db'; }],
    ['prod', 'secretsAreTheirs', (o) => { pod(o, 'auth-svc').volumes.push({ name: 'x', secret: { secretName: 'llmb-seal' } }); }],
    ['prod', 'secretsAreTheirs', (o) => { box(o, 'gateway').env.push({ name: 'X', valueFrom: { secretKeyRef: { name: 'llmb-jwt', key: 'jwt_secret' } } }); }],
    ['dev', 'secretsAreTheirs', (o) => { pod(o, 'convo-svc').volumes.push({ name: 'x', persistentVolumeClaim: { claimName: 'auth-data' } }); }],
    ['dev', 'networkIsThePicture', (o) => { delete policy(o, 'gateway').egress[0].to; }],
    ['prod', 'networkIsThePicture', (o) => { o.splice(o.indexOf(find(o, 'NetworkPolicy', 'default-deny')), 1); }],
    ['dev', 'networkIsThePicture', (o) => { policy(o, 'llm-svc').egress[0].to[0].ipBlock.except.splice(4, 1); }],
    ['dev', 'networkIsThePicture', (o) => { policy(o, 'gateway').egress.pop(); }],
    ['prod', 'networkIsThePicture', (o) => { policy(o, 'redis').ingress[0].from = undefined; }],
    ['dev', 'networkIsThePicture', (o) => { policy(o, 'gateway').ingress[0].ports[0].port = 7110; }],
    ['dev', 'configPasses', (o) => { const c = find(o, 'ConfigMap').data; c['config.yaml'] = c['config.yaml'].replace('drain_s', 'drain'); }],
    ['dev', 'configPasses', (o) => { env(o, 'llm-svc', 'LLMB_BUS_INSECURE').value = 'false'; }],
    ['prod', 'configPasses', (o) => { env(o, 'auth-svc', 'LLMB_STORAGE_DRIVER').value = 'mysql'; }],
    ['prod', 'variablesAreKnown', (o) => { env(o, 'auth-svc', 'LLMB_REDIS_ADDRESS').name = 'LLMB_REDIS_HOST'; }],
    ['dev', 'wiresMeet', (o) => { env(o, 'gateway', 'LLMB_BUS_CONVO_CONNECT').value = 'tcp://convo-svc:7101'; }],
    ['dev', 'wiresMeet', (o) => { env(o, 'auth-svc', 'LLMB_ADMIN_AUTH').value = '0.0.0.0:7110'; }],
    ['dev', 'selectorsCanStay', (o) => { find(o, 'Deployment', 'gateway').spec.selector.matchLabels['app.kubernetes.io/part-of'] = 'llm-backend-api'; }],
    ['prod', 'updatesLeaveNobodyOut', (o) => { find(o, 'Deployment', 'gateway').spec.strategy.rollingUpdate.maxUnavailable = 1; }],
    ['dev', 'updatesLeaveNobodyOut', (o) => { find(o, 'Deployment', 'auth-svc').spec.replicas = 2; }],
    ['prod', 'budgetsLeaveRoom', (o) => { find(o, 'HorizontalPodAutoscaler', 'llm-svc').spec.scaleTargetRef.name = 'llm'; }],
    ['prod', 'budgetsLeaveRoom', (o) => { find(o, 'Deployment', 'llm-svc').spec.replicas = 3; }],
    ['prod', 'budgetsLeaveRoom', (o) => { find(o, 'PodDisruptionBudget', 'gateway').spec.maxUnavailable = 0; }],
    ['dev', 'graceIsLonger', (o) => { pod(o, 'llm-svc').terminationGracePeriodSeconds = 10; }],
    ['prod', 'graceIsLonger', (o) => { delete pod(o, 'gateway').terminationGracePeriodSeconds; }],
];
