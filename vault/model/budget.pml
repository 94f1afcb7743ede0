/*
 * The guess budget of the vault, as spin checks it (make model).
 *
 * One account, one epoch, N nodes of which any T recover. Somebody who controls
 * the order of messages, the raft leader and every raft snapshot tries to have
 * more elements evaluated by T nodes than the budget U allows. Nodes crash at
 * any step, one node's disk is copied and put back later. The owner recovers
 * once and proves it.
 *
 * Two sizes are searched, each through all its states: one node with every step of
 * its own (NODES=1), as each guard is one node's, and the fleet, where a node takes
 * its steps at once (NODES=3).
 *
 * The guards of PROTOCOL.md, each of which can be taken out (-DNO_...), upon
 * which spin must find a run that breaks the bound:
 *
 *	NO_LEDGER   a node trusts the replicated machine alone
 *	NO_ANCHOR   a node believes its disk after a restart
 *	NO_FIRST    a node evaluates before it has counted
 *	NO_REPLAY   a proof may be used twice
 */

#ifndef NODES
#define NODES 1
#endif
#if NODES == 1
#define T 1
#define U 1		/* budget */
#define E 4		/* elements there are; 0 is the owner's, the others are guesses */
#define LOG 5		/* entries that can be committed */
#define FORGED 1	/* nodes that are sent a forged raft snapshot */
#else
#define T 2
#define U 1
#define E 3
#define LOG 3
#define FORGED 2
#endif

#define ATTEMPT 0	/* ATTEMPT+e: the attempt with element e is ordered */
#define PROVE 8		/* the proof for element 0 */

#define bit(e) (1 << (e))

byte log[LOG];		/* the order all nodes agree on */
byte logLen;

typedef Disk {		/* what a node keeps on its disk */
	byte applied;	/* machine: entries applied */
	byte mUsed;	/* machine: attempts since the last proof */
	byte mSet;	/* machine: elements it has ordered */
	bit mDead;	/* machine: destroyed */
	byte lUsed;	/* ledger: elements counted since the last proof */
	byte lSet;	/* ledger: elements counted */
	bit lProved;	/* ledger: the owner's proof was taken */
	byte lSeq;	/* ledger: length */
}

Disk disk[NODES];
Disk copy;		/* of node 0's disk */
bit copied, restored;
byte anchor[NODES];		/* in each HSM: length of the ledger; no disk copy holds it */
bit quarantined[NODES];
byte pending[NODES];	/* element+1 that the node is about to evaluate */
byte pc[NODES];		/* steps done for it */
byte evaluated[NODES];	/* elements that left the HSM, ever */
byte nextGuess = 1;
bit ownerTried, ownerProved;
byte forged;
byte i;			/* scratch */

inline copyDisk(to, from) {
	to.applied = from.applied; to.mUsed = from.mUsed; to.mSet = from.mSet; to.mDead = from.mDead;
	to.lUsed = from.lUsed; to.lSet = from.lSet; to.lProved = from.lProved; to.lSeq = from.lSeq
}

/* full(e) is true when T nodes have evaluated e: one guess is answered. */
#define has(n, e) ((evaluated[n] >> (e)) & 1)
#if NODES == 1
#define full(e) has(0, e)
#define guesses (full(0) + full(1) + full(2) + full(3))
#else
#define full(e) (has(0, e) + has(1, e) + has(2, e) >= T)
#define guesses (full(0) + full(1) + full(2))
#endif

/* The bound of THREAT-MODEL.md with no hostile node: U before and U after each proof. */
#define bound (U * (1 + ownerProved))

/* apply takes the next entry on node n, first in its machine, then in its ledger. */
inline apply(n) {
	d_step {
		i = log[disk[n].applied];
		disk[n].applied++;
		if
		:: i < PROVE && disk[n].mDead == 0 && disk[n].mUsed >= U -> disk[n].mDead = 1
		:: i < PROVE && disk[n].mDead == 0 && disk[n].mUsed < U ->
			disk[n].mUsed++;
			disk[n].mSet = disk[n].mSet | bit(i)
		:: i == PROVE ->
			disk[n].mUsed = 0;
			if
#ifdef NO_REPLAY
			:: disk[n].lSet & bit(0) ->
#else
			:: (disk[n].lSet & bit(0)) && disk[n].lProved == 0 ->
#endif
				disk[n].lProved = 1;
				disk[n].lUsed = 0;
				disk[n].lSeq++;
				anchor[n] = (quarantined[n] -> anchor[n] : disk[n].lSeq)
			:: else -> skip
			fi
		:: else -> skip
		fi;
		i = 0
	}
}

/* allowed: the machine has ordered e, and the ledger has counted it or has room. */
#ifdef NO_LEDGER
#define allowed(n, e) ((disk[n].mSet & bit(e)) && disk[n].mDead == 0)
#else
#define allowed(n, e) ((disk[n].mSet & bit(e)) && disk[n].mDead == 0 && ((disk[n].lSet & bit(e)) || disk[n].lUsed < U))
#endif

#define ready(n, e) (pending[n] == 0 && !quarantined[n] && allowed(n, e) && !has(n, e))

inline count(n) {	/* append to the ledger, fsync */
	d_step {
		if
		:: disk[n].lSet & bit(pending[n] - 1) -> skip	/* asking again is free */
		:: else ->
			disk[n].lSet = disk[n].lSet | bit(pending[n] - 1);
			disk[n].lUsed++;
			disk[n].lSeq++
		fi;
		pc[n]++
	}
}

inline evaluate(n) {
	d_step { evaluated[n] = evaluated[n] | bit(pending[n] - 1); pc[n]++; assert(guesses <= bound) }
}

inline anchorHead(n) {
	d_step { anchor[n] = disk[n].lSeq; pc[n]++ }
}

/* restart: the check of the ledger's length against the HSM's. */
inline restart(n) {
	d_step {
		pending[n] = 0; pc[n] = 0;
#ifndef NO_ANCHOR
		if
		:: disk[n].lSeq == anchor[n] || disk[n].lSeq == anchor[n] + 1 -> anchor[n] = disk[n].lSeq
		:: else -> quarantined[n] = 1
		fi
#else
		skip
#endif
	}
}

proctype node(byte n) {
end:
	do
	:: atomic { disk[n].applied < logLen && pending[n] == 0 -> apply(n) }
	:: atomic { ready(n, 0) -> pending[n] = 1; pc[n] = 0 }
	:: atomic { ready(n, 1) -> pending[n] = 2; pc[n] = 0 }
	:: atomic { ready(n, 2) -> pending[n] = 3; pc[n] = 0 }
#if NODES == 1
	:: atomic { ready(n, 3) -> pending[n] = 4; pc[n] = 0 }
#endif
#if NODES == 1
#ifdef NO_FIRST
	:: atomic { pending[n] && pc[n] == 0 -> evaluate(n) }
	:: atomic { pending[n] && pc[n] == 1 -> count(n) }
	:: atomic { pending[n] && pc[n] == 2 -> anchorHead(n) }
#else
	:: atomic { pending[n] && pc[n] == 0 -> count(n) }
	:: atomic { pending[n] && pc[n] == 1 -> anchorHead(n) }
	:: atomic { pending[n] && pc[n] == 2 -> evaluate(n) }
#endif
	:: atomic { pc[n] == 3 -> pending[n] = 0; pc[n] = 0 }
	:: atomic { pending[n] -> restart(n) }	/* kill -9 between any two steps */
#else
	:: atomic { pending[n] -> count(n); anchorHead(n); evaluate(n); pending[n] = 0; pc[n] = 0 }
#endif
	od
}

/* The network, the raft leader and the disks, all in hostile hands. */
proctype adversary() {
end:
	do
	:: atomic { logLen < LOG && nextGuess < E -> log[logLen] = ATTEMPT + nextGuess; logLen++; nextGuess++ }
	:: atomic { logLen < LOG && !ownerTried -> log[logLen] = ATTEMPT + 0; logLen++; ownerTried = 1 }
	:: atomic { logLen < LOG && full(0) -> log[logLen] = PROVE; logLen++; ownerProved = 1 }	/* as often as it likes: it has the owner's signature */
	:: atomic { forged < FORGED -> /* a forged raft snapshot: counters reset, every element ordered */
		disk[forged].mUsed = 0; disk[forged].mDead = 0; disk[forged].mSet = bit(E) - 1; disk[forged].applied = logLen; forged++ }
	:: atomic { !copied -> copyDisk(copy, disk[0]); copied = 1 }
	:: atomic { copied && !restored -> copyDisk(disk[0], copy); restored = 1; restart(0) }
	od
}

init {
	atomic {
		run node(0);
#if NODES == 3
		run node(1);
		run node(2);
#endif
		run adversary()
	}
}
