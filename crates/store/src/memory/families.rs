//! Families, with the number that each client has.

use tessera_core::{Family, FamilyId};

use super::Tables;

impl Tables {
    pub(super) fn put_family(&mut self, family: Family) {
        let owner = (family.realm.clone(), family.client.clone());
        if let Some(old) = self.families.insert(family.id, family) {
            self.uncount(&old);
        }
        *self.family_counts.entry(owner).or_default() += 1;
    }

    pub(super) fn remove_family(&mut self, id: FamilyId) {
        if let Some(old) = self.families.remove(&id) {
            self.uncount(&old);
        }
    }

    fn uncount(&mut self, family: &Family) {
        let owner = (family.realm.clone(), family.client.clone());
        if let Some(count) = self.family_counts.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.family_counts.remove(&owner);
            }
        }
    }
}
